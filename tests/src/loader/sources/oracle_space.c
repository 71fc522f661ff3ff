#include <linux/module.h>
#include <linux/version.h>
#include <linux/dma-buf.h>
MODULE_LICENSE("GPL");
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS("DMA_BUF");
#else
MODULE_IMPORT_NS(DMA_BUF);
#endif
static bool never;
module_param(never, bool, 0);
static int __init start(void) { if (never) dma_buf_put(NULL); return 0; }
static void __exit stop(void) { }
module_init(start);
module_exit(stop);
