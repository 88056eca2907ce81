/* Preloaded into programs that need /dev/dma_heap where the kernel has none: the heap's buffers
 * become memfds. Enough for libcamera's virtual camera and for picamera2.
 *
 *     cc -shared -fPIC -O2 -o fakedmaheap.so fakedmaheap.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HEAP "/dev/dma_heap/linux,cma"

/* The kernel's numbers for these requests, from linux/dma-heap.h and linux/dma-buf.h. */
#define DMA_HEAP_IOCTL_ALLOC 0xc0184800UL
#define DMA_BUF_IOCTL_SYNC 0x40086200UL
#define DMA_BUF_SET_NAME_A 0x40046201UL
#define DMA_BUF_SET_NAME_B 0x40086201UL

struct dma_heap_allocation_data {
    uint64_t len;
    uint32_t fd;
    uint32_t fd_flags;
    uint64_t heap_flags;
};

#define DEFINE_OPEN(name)                                                          \
    int name(const char *path, int flags, ...)                                     \
    {                                                                              \
        static int (*real)(const char *, int, int);                                \
        va_list arguments;                                                         \
        va_start(arguments, flags);                                                \
        int mode = va_arg(arguments, int);                                         \
        va_end(arguments);                                                         \
        if (path && !strcmp(path, HEAP))                                           \
            return memfd_create("fake-dma-heap", MFD_CLOEXEC);                     \
        if (!real)                                                                 \
            real = dlsym(RTLD_NEXT, #name);                                        \
        return real(path, flags, mode);                                            \
    }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)

static int allocate(struct dma_heap_allocation_data *wanted)
{
    int buffer = memfd_create("fake-dma-buf", MFD_CLOEXEC);
    if (buffer < 0 || ftruncate(buffer, wanted->len) < 0)
        return -1;
    wanted->fd = buffer;
    return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
    static int (*real)(int, unsigned long, void *);
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    switch (request & 0xffffffffUL) {
    case DMA_HEAP_IOCTL_ALLOC:
        return allocate(argument);
    case DMA_BUF_IOCTL_SYNC:
    case DMA_BUF_SET_NAME_A:
    case DMA_BUF_SET_NAME_B:
        return 0;
    }
    if (!real)
        real = dlsym(RTLD_NEXT, "ioctl");
    return real(fd, request, argument);
}
