/* Our version, and the PgBouncer version whose surface we take over. */
#ifndef PROXY_VERSION_H
#define PROXY_VERSION_H

#define VERSION_NUMBER "1.0.0"
#define VERSION_TEXT "pgweir " VERSION_NUMBER
#define VERSION_PGBOUNCER "1.25.2"

#endif
