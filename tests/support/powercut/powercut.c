/* A disk whose cache can be lost: LD_PRELOAD below SQLite and everything else that writes through libc.
 *
 * For every file below $POWERCUT_FOLDER each write, truncation, creation, renaming and removal is noted in an undo
 * journal ($POWERCUT_JOURNAL/journal) before it is done, with the bytes that it replaces; a file that loses its name is
 * kept by a hard link. Every fsync and fdatasync is done, and noted once it has returned, with how much of the journal
 * had been written when it began. So a harness can take back, after SIGKILL, any part of what no sync has covered:
 * tests/support/power_cut.py. Shared memory (-shm) is not noted: SQLite never counts on it.
 *
 * $POWERCUT_BOOT, if set, is a file that is read in place of the kernel's boot id: after the power came back it is
 * another one.
 *
 * gcc -shared -fPIC -O2 -o powercut.so powercut.c -ldl -lpthread
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE, SYNC, CREATE, RENAME, UNLINK };
enum { NO_FILE, A_FILE, A_FOLDER };

/* One entry of the journal, little-endian, then `payload` bytes: what was there before, or one or two paths. */
struct entry {
    uint32_t kind;
    uint32_t payload;
    uint64_t time_ns; /* monotonic */
    uint64_t inode;   /* RENAME: of the file that was replaced, 0 = none */
    uint64_t offset;  /* TRUNCATE: the new size; SYNC: bytes of the journal that it covers */
    uint64_t length;  /* WRITE: bytes written */
    uint64_t size;    /* of the file before */
};

#define MOST_FILES 65536
static char tracked[MOST_FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *folder, *home, *boot;
static int journal = -1;
static uint64_t written, kept; /* bytes of the journal; files kept */

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int), (*real_fdatasync)(int);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_mkdir)(const char *, mode_t);

/* At the start, and in every process that is forked: the journal is another one after each failure of the power. */
static void open_journal(void)
{
    char path[PATH_MAX];
    if (journal >= 0)
        real_close(journal);
    snprintf(path, sizeof path, "%s/journal", home);
    journal = real_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (journal < 0) {
        perror(path);
        abort();
    }
}

__attribute__((constructor)) static void begin(void)
{
    real_open = dlsym(RTLD_NEXT, "open64");
    real_openat = dlsym(RTLD_NEXT, "openat64");
    real_close = dlsym(RTLD_NEXT, "close");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_mkdir = dlsym(RTLD_NEXT, "mkdir");
    boot = getenv("POWERCUT_BOOT");
    home = getenv("POWERCUT_JOURNAL");
    folder = getenv("POWERCUT_FOLDER");
    if (folder == NULL || home == NULL)
        return;
    open_journal();
    pthread_atfork(NULL, NULL, open_journal);
}

static int is_ours(const char *path)
{
    if (journal < 0 || strncmp(path, folder, strlen(folder)) != 0)
        return 0;
    size_t length = strlen(path);
    return length < 4 || strcmp(path + length - 4, "-shm") != 0;
}

static void note(struct entry entry, const void *payload)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    entry.time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    struct iovec parts[2] = {{&entry, sizeof entry}, {(void *)payload, entry.payload}};
    if (writev(journal, parts, 2) != (ssize_t)(sizeof entry + entry.payload)) {
        perror("powercut: journal");
        abort();
    }
    written += sizeof entry + entry.payload;
}

/* Note that [offset, offset + length) of a file is about to change; with WRITE by a write, else by a new size. */
static void note_change(int file, uint32_t kind, uint64_t offset, uint64_t length)
{
    struct stat stat;
    if (fstat(file, &stat) != 0)
        return;
    uint64_t size = (uint64_t)stat.st_size;
    uint64_t end = kind == WRITE && offset + length < size ? offset + length : size;
    size_t old = end > offset ? end - offset : 0;
    char *bytes = malloc(old + 1);
    char path[64];
    /* The descriptor at hand may be for writing alone. */
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    int reader = old ? real_open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (bytes == NULL || (old && (reader < 0 || pread(reader, bytes, old, (off_t)offset) != (ssize_t)old))) {
        perror("powercut: what is there before a write");
        abort();
    }
    if (reader >= 0)
        real_close(reader);
    note((struct entry){kind, (uint32_t)old, 0, stat.st_ino, offset, length, size}, bytes);
    free(bytes);
}

static void note_names(uint32_t kind, uint64_t inode, const char *first, const char *second)
{
    char paths[2 * PATH_MAX];
    int length = snprintf(paths, sizeof paths, "%s%c%s", first, 0, second);
    note((struct entry){kind, (uint32_t)length, 0, inode, kept, 0, 0}, paths);
}

/* A file is about to lose its name: keep it under another. Returns its inode, 0 where there is none. */
static uint64_t keep(const char *path)
{
    struct stat stat;
    char aside[PATH_MAX];
    if (lstat(path, &stat) != 0)
        return 0;
    snprintf(aside, sizeof aside, "%s/kept-%llu", home, (unsigned long long)++kept);
    if (link(path, aside) != 0) {
        perror(aside);
        abort();
    }
    return stat.st_ino;
}

static int opened(int file, const char *path, int flags, int was_there)
{
    int failed = errno;
    if (file >= 0 && file < MOST_FILES && is_ours(path)) {
        struct stat stat;
        fstat(file, &stat);
        tracked[file] = S_ISDIR(stat.st_mode) ? A_FOLDER : A_FILE;
        if ((flags & O_CREAT) && !was_there)
            note_names(CREATE, stat.st_ino, path, "");
    }
    errno = failed;
    return file;
}

static int open_at(int at, const char *path, int flags, mode_t mode)
{
    if (boot != NULL && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
        path = boot;
    if (!is_ours(path))
        return at == AT_FDCWD ? real_open(path, flags, mode) : real_openat(at, path, flags, mode);
    pthread_mutex_lock(&lock);
    int was_there = access(path, F_OK) == 0;
    if (was_there && (flags & O_TRUNC)) {
        int file = real_open(path, O_RDONLY | O_CLOEXEC);
        note_change(file, TRUNCATE, 0, 0);
        real_close(file);
    }
    int file = opened(real_openat(at, path, flags, mode), path, flags, was_there);
    pthread_mutex_unlock(&lock);
    return file;
}

#define MODE(flags, mode)                                     \
    mode_t mode = 0;                                          \
    if ((flags) & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) {   \
        va_list more;                                         \
        va_start(more, flags);                                \
        mode = va_arg(more, mode_t);                          \
        va_end(more);                                         \
    }

int open(const char *path, int flags, ...) { MODE(flags, mode) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, mode) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags, mode) return open_at(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags, mode) return open_at(at, path, flags, mode); }

static int is_tracked(int file, char as)
{
    return journal >= 0 && file >= 0 && file < MOST_FILES && tracked[file] == as;
}

int close(int file)
{
    if (journal >= 0 && file >= 0 && file < MOST_FILES)
        tracked[file] = NO_FILE;
    return real_close(file);
}

ssize_t write(int file, const void *bytes, size_t length)
{
    if (!is_tracked(file, A_FILE))
        return real_write(file, bytes, length);
    pthread_mutex_lock(&lock);
    note_change(file, WRITE, (uint64_t)lseek(file, 0, SEEK_CUR), length);
    ssize_t done = real_write(file, bytes, length);
    return pthread_mutex_unlock(&lock), done;
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset)
{
    if (!is_tracked(file, A_FILE))
        return real_pwrite(file, bytes, length, offset);
    pthread_mutex_lock(&lock);
    note_change(file, WRITE, (uint64_t)offset, length);
    ssize_t done = real_pwrite(file, bytes, length, offset);
    return pthread_mutex_unlock(&lock), done;
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off_t offset) { return pwrite(file, bytes, length, offset); }

int ftruncate(int file, off_t size)
{
    if (!is_tracked(file, A_FILE))
        return real_ftruncate(file, size);
    pthread_mutex_lock(&lock);
    note_change(file, TRUNCATE, (uint64_t)size, 0);
    int failed = real_ftruncate(file, size);
    return pthread_mutex_unlock(&lock), failed;
}

int ftruncate64(int file, off_t size) { return ftruncate(file, size); }

static int synced(int file, int (*sync)(int))
{
    struct stat stat;
    if (!(is_tracked(file, A_FILE) || is_tracked(file, A_FOLDER)) || fstat(file, &stat) != 0)
        return sync(file);
    pthread_mutex_lock(&lock);
    uint64_t covers = written;
    pthread_mutex_unlock(&lock);
    int failed = sync(file);
    if (failed == 0) {
        pthread_mutex_lock(&lock);
        note((struct entry){SYNC, 0, 0, stat.st_ino, covers, 0, 0}, "");
        pthread_mutex_unlock(&lock);
    }
    return failed;
}

int fsync(int file) { return synced(file, real_fsync); }
int fdatasync(int file) { return synced(file, real_fdatasync); }

int rename(const char *from, const char *to)
{
    if (!is_ours(from) || !is_ours(to))
        return real_rename(from, to);
    pthread_mutex_lock(&lock);
    note_names(RENAME, keep(to), from, to);
    int failed = real_rename(from, to);
    return pthread_mutex_unlock(&lock), failed;
}

int unlink(const char *path)
{
    if (!is_ours(path))
        return real_unlink(path);
    pthread_mutex_lock(&lock);
    uint64_t inode = keep(path);
    if (inode)
        note_names(UNLINK, inode, path, "");
    int failed = real_unlink(path);
    return pthread_mutex_unlock(&lock), failed;
}

int mkdir(const char *path, mode_t mode)
{
    if (!is_ours(path))
        return real_mkdir(path, mode);
    pthread_mutex_lock(&lock);
    int failed = real_mkdir(path, mode);
    if (!failed)
        note_names(CREATE, 0, path, "");
    pthread_mutex_unlock(&lock);
    return failed;
}
