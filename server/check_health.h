/* check_health: asks a running server from outside; the container's health check. */
#ifndef FLUXD_SERVER_CHECK_HEALTH_H
#define FLUXD_SERVER_CHECK_HEALTH_H

int check_health(const char *host, int port); /* 0: healthy and ready; 1: not, and standard error says why */

#endif
