#include <linux/module.h>
MODULE_LICENSE("GPL");
extern void oracle_nowhere(void) __attribute__((weak));
static int __init start(void) { if (oracle_nowhere) oracle_nowhere(); return 0; }
static void __exit stop(void) { }
module_init(start);
module_exit(stop);
