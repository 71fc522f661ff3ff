#include <linux/module.h>
MODULE_LICENSE("GPL");
int oracle_add(int a);
int oracle_add(int a) { return a + 1; }
EXPORT_SYMBOL(oracle_add);
/* As long as ktime_get, which the kernel exports. */
int oracle_gt(int a);
int oracle_gt(int a) { return a + 2; }
EXPORT_SYMBOL(oracle_gt);
static int __init start(void) { return 0; }
static void __exit stop(void) { }
module_init(start);
module_exit(stop);
