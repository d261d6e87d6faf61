/* version: what /version, --version and fluxd_build_info say. */
#ifndef FLUXD_SERVER_VERSION_H
#define FLUXD_SERVER_VERSION_H

#define FLUXD_VERSION "0.2.0"

#endif
