/* Makes every sync fail with EIO while the file named by FAILING_SYNC_WHILE exists; loaded with LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int fails(void) {
  const char *trigger = getenv("FAILING_SYNC_WHILE");
  return trigger && access(trigger, F_OK) == 0;
}

#define FAILING(name)                                                   \
  int name(int descriptor) {                                            \
    if (fails()) {                                                      \
      errno = EIO;                                                      \
      return -1;                                                        \
    }                                                                   \
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name);           \
    return real(descriptor);                                            \
  }

FAILING(fsync)
FAILING(fdatasync)
