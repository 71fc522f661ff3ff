#include <linux/module.h>
MODULE_LICENSE("GPL");
MODULE_VERSION("1.0");
/* Room for another entry of the same length. */
MODULE_INFO(oracleinfo, "Y");
static int __init start(void) { pr_info("oracle_plain\n"); return 0; }
static void __exit stop(void) { }
module_init(start);
module_exit(stop);
