/* Changes for one process what the machine does, also while it runs, by three numbers in a file: how
   many milliseconds the clock is ahead, the error of every write at a place of a file and of
   every sync, and whether these do not end for now. Only the clock that can be set is changed; the others are those of the system. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct machine {
    int64_t clock_ahead_ms;
    int64_t write_error;
    int64_t write_hangs;
};

static volatile struct machine *machine;

__attribute__((constructor)) static void find(void) {
    const char *path = getenv("TEST_MACHINE");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0) return;
    void *mapped = mmap(0, sizeof *machine, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) machine = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME && machine) {
        int64_t ms = machine->clock_ahead_ms;
        now->tv_sec += ms / 1000;
        now->tv_nsec += ms % 1000 * 1000000;
        if (now->tv_nsec < 0) now->tv_nsec += 1000000000, now->tv_sec--;
        if (now->tv_nsec >= 1000000000) now->tv_nsec -= 1000000000, now->tv_sec++;
    }
    return result;
}

static int fails(void) {
    while (machine && machine->write_hangs) usleep(5000);
    if (!machine || !machine->write_error) return 0;
    errno = machine->write_error;
    return 1;
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset) {
    return fails() ? -1 : syscall(SYS_pwrite64, file, bytes, length, offset);
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset) {
    return fails() ? -1 : syscall(SYS_pwrite64, file, bytes, length, offset);
}

int fsync(int file) {
    return fails() ? -1 : syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    return fails() ? -1 : syscall(SYS_fdatasync, file);
}
