#include <linux/module.h>
#include <linux/rcupdate.h>
MODULE_LICENSE("GPL");
int oracle_add(int a);
static bool never;
module_param(never, bool, 0);
static int __init start(void) { if (never) synchronize_rcu(); return oracle_add(-1); }
static void __exit stop(void) { }
module_init(start);
module_exit(stop);
