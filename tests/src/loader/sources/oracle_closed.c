#include <linux/module.h>
MODULE_LICENSE("Proprietary");
static int __init start(void) { pr_info("oracle_closed\n"); return 0; }
static void __exit stop(void) { }
module_init(start);
module_exit(stop);
