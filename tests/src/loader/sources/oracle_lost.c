#include <linux/module.h>
MODULE_LICENSE("GPL");
int oracle_nowhere(void);
static bool never;
module_param(never, bool, 0);
static int __init start(void) { return never ? oracle_nowhere() : 0; }
static void __exit stop(void) { }
module_init(start);
module_exit(stop);
