/* process: /proc/self for metrics and the start log, and the first steps of main. No state. */
#include "server/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void read_statm(struct process_use *p)
{
    long long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return;
    if (fscanf(f, "%lld %lld", &size, &resident) == 2) {
        p->virtual_bytes = size * sysconf(_SC_PAGESIZE);
        p->resident_bytes = resident * sysconf(_SC_PAGESIZE);
    }
    fclose(f);
}

static double boot_time_s(void)
{
    char line[256];
    double s = 0;
    FILE *f = fopen("/proc/stat", "re");
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "btime %lf", &s) == 1) break;
    fclose(f);
    return s;
}

/* The process's name may hold spaces and brackets: the fields are counted from the last bracket. */
static void read_stat(struct process_use *p)
{
    char text[1024];
    FILE *f = fopen("/proc/self/stat", "re");
    if (!f) return;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *at = strrchr(text, ')');
    if (!at) return;
    unsigned long long user = 0, sys = 0, start = 0;
    if (sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu",
               &user, &sys, &start) != 3)
        return;
    double tick = (double)sysconf(_SC_CLK_TCK);
    p->cpu_s = (double)(user + sys) / tick;
    p->start_s = boot_time_s() + (double)start / tick;
}

static int64_t count_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    int64_t n = -3; /* ".", ".." and the directory's own */
    if (!d) return 0;
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

void process_look(struct process_use *out)
{
    memset(out, 0, sizeof *out);
    read_statm(out);
    read_stat(out);
    out->open_fds = count_fds();
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) out->max_fds = (int64_t)r.rlim_cur;
}

int64_t process_resident_bytes(void)
{
    struct process_use p = {0};
    read_statm(&p);
    return p.resident_bytes;
}

/* --- before anything is opened */

bool process_hold_standard_files(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", O_RDWR) == -1) return false;
    return true;
}

/* The kernels' threads meet many times a token. By default a thread spins for milliseconds while it waits,
 * which on a busy machine takes the core from the one it waits for; some microseconds are enough. OpenMP
 * reads this before main runs. */
void process_spin_less(char **argv)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0 || getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY") ||
        setenv("GOMP_SPINCOUNT", "2000", 1) != 0)
        return;
    self[n] = '\0';
    execv(self, argv); /* where it fails, serving is only less steady */
}

void process_settle(void)
{
    static const int meaningless[] = {SIGPIPE, SIGUSR1, SIGUSR2,
                                      SIGXFSZ}; /* the last: a log that may not grow */
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    for (size_t i = 0; i < sizeof meaningless / sizeof *meaningless; i++)
        sigaction(meaningless[i], &ignore, NULL);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

bool process_can_open(int n)
{
    enum { MOST = 64 };
    int fd[MOST], n_open = 0;
    while (n_open < n && n_open < MOST && (fd[n_open] = fcntl(0, F_DUPFD_CLOEXEC, 3)) >= 0) n_open++;
    const bool can = n_open == n;
    while (n_open > 0) close(fd[--n_open]);
    return can;
}
