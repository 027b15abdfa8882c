/* A machine whose disk and clock go wrong on demand: LD_PRELOAD below a real gateway.
 *
 * $FAULTY_CONTROL is a file of 16 bytes that the test changes while the program runs: int32 errno, int32 bytes per second,
 * int64 ns. While errno is not 0, whatever would change something below $FAULTY_FOLDER fails with it, as on a disk that
 * turned read-only (EROFS: files cannot be opened for writing either) or is full (ENOSPC: what is there can be opened,
 * renamed and removed). Where bytes per second are not 0, writing takes that long. The ns are added to the wall clock; the monotonic clock knows nothing of them.
 *
 * gcc -shared -fPIC -O2 -o faulty_machine.so faulty_machine.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control {
    volatile int32_t error;
    volatile int32_t rate;
    volatile int64_t ahead_ns;
};

static struct control calm;
static struct control *control = &calm;
static const char *folder = "";
static size_t folder_length;

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static int (*real_ftruncate)(int, off64_t);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_mkdir)(const char *, mode_t);
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    real_open = dlsym(RTLD_NEXT, "open64");
    real_openat = dlsym(RTLD_NEXT, "openat64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_mkdir = dlsym(RTLD_NEXT, "mkdir");
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("FAULTY_CONTROL");
    if (getenv("FAULTY_FOLDER") != NULL)
        folder = getenv("FAULTY_FOLDER");
    folder_length = strlen(folder);
    int file = path == NULL ? -1 : real_open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return;
    void *found = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (found != MAP_FAILED)
        control = found;
}

static int below(const char *path) {
    return strncmp(path, folder, folder_length) == 0 && (path[folder_length] == '/' || path[folder_length] == 0);
}

static int file_below(int file) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return below(path);
}

/* Does opening fail? A full disk has no room for a new name, and a file that is there opens as ever. */
static int opening_fails(const char *path, int flags) {
    struct stat found;
    if (!control->error || (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) == 0 || !below(path))
        return 0;
    if (control->error == ENOSPC && stat(path, &found) == 0)
        return 0;
    errno = control->error;
    return 1;
}

static int path_fails(const char *path, int full_too) {
    if (!control->error || (control->error == ENOSPC && !full_too) || !below(path))
        return 0;
    errno = control->error;
    return 1;
}

static int file_fails(int file) {
    if (!control->error || !file_below(file))
        return 0;
    errno = control->error;
    return 1;
}

static ssize_t slowly(int file, ssize_t written) {
    int32_t rate = control->rate;
    if (rate > 0 && written > 0 && file_below(file)) {
        int64_t ns = (int64_t)written * 1000000000 / rate;
        struct timespec pause = {ns / 1000000000, ns % 1000000000};
        nanosleep(&pause, NULL);
    }
    return written;
}

#define MODE                                  \
    mode_t mode = 0;                          \
    if (flags & (O_CREAT | O_TMPFILE)) {      \
        va_list rest;                         \
        va_start(rest, flags);                \
        mode = (mode_t)va_arg(rest, int);     \
        va_end(rest);                         \
    }

int open(const char *path, int flags, ...) {
    MODE
    return opening_fails(path, flags) ? -1 : real_open(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE
    return opening_fails(path, flags) ? -1 : real_open(path, flags, mode);
}

int openat(int at, const char *path, int flags, ...) {
    MODE
    return opening_fails(path, flags) ? -1 : real_openat(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    MODE
    return opening_fails(path, flags) ? -1 : real_openat(at, path, flags, mode);
}

ssize_t write(int file, const void *bytes, size_t length) {
    return file_fails(file) ? -1 : slowly(file, real_write(file, bytes, length));
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset) {
    return file_fails(file) ? -1 : slowly(file, real_pwrite(file, bytes, length, offset));
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset) {
    return file_fails(file) ? -1 : slowly(file, real_pwrite(file, bytes, length, offset));
}

int ftruncate(int file, off_t length) { return file_fails(file) ? -1 : real_ftruncate(file, length); }

int ftruncate64(int file, off64_t length) { return file_fails(file) ? -1 : real_ftruncate(file, length); }

int rename(const char *from, const char *to) { return path_fails(from, 0) ? -1 : real_rename(from, to); }

int unlink(const char *path) { return path_fails(path, 0) ? -1 : real_unlink(path); }

int mkdir(const char *path, mode_t mode) { return path_fails(path, 1) ? -1 : real_mkdir(path, mode); }

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = real_clock_gettime(clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        __int128 now = (__int128)time->tv_sec * 1000000000 + time->tv_nsec + control->ahead_ns;
        time->tv_sec = (time_t)(now / 1000000000);
        time->tv_nsec = (long)(now % 1000000000);
    }
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result != NULL)
        *result = now.tv_sec;
    return now.tv_sec;
}
