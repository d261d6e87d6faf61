/* roof: what the device's memory gives, measured where it is asked. Host side. */
#ifndef FLUXD_KERNELS_BENCH_ROOF_H
#define FLUXD_KERNELS_BENCH_ROOF_H

#ifdef __cplusplus
extern "C" {
#endif

double
roof_read_tbps(void); /* TB/s of reading 2 GiB and doing nothing else; takes 2 GiB for a moment; 0: no room */
double roof_copy_tbps(void); /* of a copy in the device, read and written bytes */

#ifdef __cplusplus
}
#endif
#endif
