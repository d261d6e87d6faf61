/* endpoint: the names of the rows of endpoints.def. */
#ifndef FLUXD_SERVER_API_ENDPOINT_H
#define FLUXD_SERVER_API_ENDPOINT_H

enum api_endpoint {
#define ENDPOINT(id, ...) API_##id,
#define VIEW(id, ...)     API_##id,
#include "server/api/endpoints.def"
#undef ENDPOINT
#undef VIEW
    API_N_ENDPOINT
};

#endif
