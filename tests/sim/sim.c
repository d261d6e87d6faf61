/* sim: six traces of 100,000 requests, then a table of policies. `make sim`. An argument is another number of
 * requests. */
#include <stdio.h>
#include <time.h>

#include "tests/sim/world.h"

static const double LOAD = 0.7; /* of what the machine could do if prefill had it alone; the target between
                                   tokens leaves it three quarters */

static double cpu_s(void) { return (double)clock() / CLOCKS_PER_SEC; }

int main(int argc, char **argv)
{
    static const struct {
        const char *title;
        enum route_policy policy;
        bool age;
        double target_ms, burst_ms;
    } row[] = {{"none", ROUTE_POLICY_NONE, true, 40, 0},
               {"order", ROUTE_POLICY_ORDER, true, 40, 0},
               {"balance, no ageing", ROUTE_POLICY_BALANCE, false, 40, 0},
               {"balance", ROUTE_POLICY_BALANCE, true, 40, 0},
               {"order, no target", ROUTE_POLICY_ORDER, true, 0, 100}};
    int n = argc > 1 ? atoi(argv[1]) : 100000;
    double whole = 0;
    if (n < 1) return 2;
    printf("%d requests per trace, load %.2f; times in ms; error: of the decode model\n", n, LOAD);
    printf("%-10s %-19s %8s %9s %9s %7s %7s %6s %7s %6s %7s %6s %6s\n", "trace", "policy", "TTFT p50", "p99",
           "most", "ITL p99", "tok/s", "429", "pages", "passed", "steps k", "error", "cpu s");
    for (int t = 0; t < N_TRACES; t++)
        for (size_t p = 0; p < sizeof row / sizeof *row; p++) {
            double t0 = cpu_s();
            struct sim_conf c = {.trace = (enum trace)t,
                                 .policy = row[p].policy,
                                 .age = row[p].age,
                                 .target_ms = row[p].target_ms,
                                 .burst_ms = row[p].burst_ms,
                                 .n = n,
                                 .load = LOAD,
                                 .seed = 5};
            struct sim_result r = sim_run(&c);
            printf("%-10s %-19s %8.0f %9.0f %9.0f %7.1f %7.0f %6d %7lld %6d %7lld %6.3f %6.1f\n",
                   trace_name[t], row[p].title, r.ttft50_ms, r.ttft99_ms, r.ttft_most_ms, r.itl99_ms,
                   r.tok_per_s, r.n_refused, (long long)r.pages_peak, r.passed_most,
                   (long long)r.steps / 1000, r.error, cpu_s() - t0);
            fflush(stdout);
            whole += cpu_s() - t0;
        }
    printf("laws held in all runs; %.0f s of one core\n", whole);
    return 0;
}
