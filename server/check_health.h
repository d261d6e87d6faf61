/* check_health: asks a running server from outside; the container's health check. */
#ifndef FLUXD_SERVER_CHECK_HEALTH_H
#define FLUXD_SERVER_CHECK_HEALTH_H

/* hosts: as --host has them; the first is asked. 0: healthy and ready; 1: not, and standard error says why.
 */
int check_health(const char *hosts, int port);

#endif
