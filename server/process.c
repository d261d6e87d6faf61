/* process: /proc/self for metrics and the start log. Any thread; no state. */
#include "server/process.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void read_statm(struct process_use *p)
{
    long long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return;
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
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "btime %lf", &s) == 1)
            break;
    fclose(f);
    return s;
}

/* The process's name may hold spaces and brackets: the fields are counted from the last bracket. */
static void read_stat(struct process_use *p)
{
    char text[1024];
    FILE *f = fopen("/proc/self/stat", "re");
    if (!f)
        return;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *at = strrchr(text, ')');
    if (!at)
        return;
    unsigned long long user = 0, sys = 0, start = 0;
    if (sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu", &user,
               &sys, &start) != 3)
        return;
    double tick = (double)sysconf(_SC_CLK_TCK);
    p->cpu_s = (double)(user + sys) / tick;
    p->start_s = boot_time_s() + (double)start / tick;
}

static int64_t count_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    int64_t n = -3; /* ".", ".." and the directory's own */
    if (!d)
        return 0;
    while (readdir(d))
        n++;
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
    if (getrlimit(RLIMIT_NOFILE, &r) == 0)
        out->max_fds = (int64_t)r.rlim_cur;
}

int64_t process_resident_bytes(void)
{
    struct process_use p = {0};
    read_statm(&p);
    return p.resident_bytes;
}
