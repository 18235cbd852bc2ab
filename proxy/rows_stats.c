/* SHOW STATS, STATS_TOTALS, STATS_AVERAGES, TOTALS. */
#include "proxy/rows.h"

#include "proxy/samples.h"

struct stats_row {
    const char *database;
    struct route_totals total, average;
};

/* A column of one counter under PgBouncer's name for it. */
#define SUM(shown_as, field)                                                                       \
    .name = shown_as, .type = TABLE_SUM, .offset = offsetof(struct stats_row, field)
#define COUNTED(metric_name, text) .role = TABLE_COUNTER, .metric = metric_name, .help = text

#define ROW struct stats_row
static const struct table_column stats_columns[] = {
    {COL(database, TEXT), .role = TABLE_LABEL},
    {SUM("total_server_assignment_count", total.server_assignment_count),
     COUNTED("server_assignments", "Times a server was given to a client.")},
    {SUM("total_xact_count", total.xact_count), COUNTED("transactions", "Transactions.")},
    {SUM("total_query_count", total.query_count), COUNTED("queries", "Statements.")},
    {SUM("total_received", total.client_bytes), COUNTED("received_bytes", "Bytes from clients.")},
    {SUM("total_sent", total.server_bytes), COUNTED("sent_bytes", "Bytes to clients.")},
    {SUM("total_xact_time", total.xact_time), .unit = TABLE_US,
     COUNTED("transaction", "Time clients were in a transaction.")},
    {SUM("total_query_time", total.query_time), .unit = TABLE_US,
     COUNTED("query", "Time servers worked on statements.")},
    {SUM("total_wait_time", total.wait_time), .unit = TABLE_US,
     COUNTED("wait", "Time clients waited for a server.")},
    {SUM("total_client_parse_count", total.ps_client_parse_count),
     COUNTED("client_parses", "Prepared statements clients made.")},
    {SUM("total_server_parse_count", total.ps_server_parse_count),
     COUNTED("server_parses", "Prepared statements made on servers.")},
    {SUM("total_bind_count", total.ps_bind_count), COUNTED("binds", "Prepared statements run.")},
    {SUM("total_client_login_count", total.client_login_count),
     COUNTED("client_logins", "Logins of clients.")},
    {SUM("avg_server_assignment_count", average.server_assignment_count)},
    {SUM("avg_xact_count", average.xact_count)},
    {SUM("avg_query_count", average.query_count)},
    {SUM("avg_recv", average.client_bytes)},
    {SUM("avg_sent", average.server_bytes)},
    {SUM("avg_xact_time", average.xact_time)},
    {SUM("avg_query_time", average.query_time)},
    {SUM("avg_wait_time", average.wait_time)},
    {SUM("avg_client_parse_count", average.ps_client_parse_count)},
    {SUM("avg_server_parse_count", average.ps_server_parse_count)},
    {SUM("avg_bind_count", average.ps_bind_count)},
    {SUM("avg_client_login_count", average.client_login_count)},
    {SUM("total_server_move_count", total.server_move_count),
     COUNTED("server_moves", "Times a server was handed from one worker to another.")},
    {SUM("avg_server_move_count", average.server_move_count)},
};
const struct table rows_stats_table = {
    .name = "STATS", .prefix = "", TABLE_OF(stats_columns), .help = "totals and averages"};

static const struct table_column totals_columns[] = {
    {COL(database, TEXT)},
    {SUM("server_assignment_count", total.server_assignment_count)},
    {SUM("xact_count", total.xact_count)},
    {SUM("query_count", total.query_count)},
    {SUM("bytes_received", total.client_bytes)},
    {SUM("bytes_sent", total.server_bytes)},
    {SUM("xact_time", total.xact_time)},
    {SUM("query_time", total.query_time)},
    {SUM("wait_time", total.wait_time)},
    {SUM("client_parse_count", total.ps_client_parse_count)},
    {SUM("server_parse_count", total.ps_server_parse_count)},
    {SUM("bind_count", total.ps_bind_count)},
    {SUM("client_login_count", total.client_login_count)},
    {SUM("server_move_count", total.server_move_count)},
};
const struct table rows_stats_totals_table = {
    .name = "STATS_TOTALS", TABLE_OF(totals_columns), .help = "totals per database"};

static const struct table_column averages_columns[] = {
    {COL(database, TEXT)},
    {SUM("server_assignment_count", average.server_assignment_count)},
    {SUM("xact_count", average.xact_count)},
    {SUM("query_count", average.query_count)},
    {SUM("bytes_received", average.client_bytes)},
    {SUM("bytes_sent", average.server_bytes)},
    {SUM("xact_time", average.xact_time)},
    {SUM("query_time", average.query_time)},
    {SUM("wait_time", average.wait_time)},
    {SUM("avg_client_parse_count", average.ps_client_parse_count)},
    {SUM("avg_server_parse_count", average.ps_server_parse_count)},
    {SUM("avg_bind_count", average.ps_bind_count)},
    {SUM("avg_client_login_count", average.client_login_count)},
    {SUM("avg_server_move_count", average.server_move_count)},
};
const struct table rows_stats_averages_table = {.name = "STATS_AVERAGES",
                                                TABLE_OF(averages_columns),
                                                .help = "averages per database over stats_period"};
#undef ROW

void rows_fill_stats(const struct rows_from *from, struct rows *out)
{
    samples_add_up(from->samples, from->proxy->registry);
    for (const struct samples_db *db = from->samples->dbs; db; db = db->hh.next) {
        struct stats_row *row = rows_add(out, &rows_stats_table);
        row->database = db->name;
        row->total = db->total;
        row->average = db->average;
    }
}

/* ---- TOTALS ---------------------------------------------------------------------------------- */

struct total_row {
    const char *name;
    uint64_t value;
};

#define ROW struct total_row
static const struct table_column total_columns[] = {{COL(name, TEXT)}, {COL(value, SUM)}};
const struct table rows_totals_table = {
    .name = "TOTALS", TABLE_OF(total_columns), .help = "totals and averages over all databases"};
#undef ROW

static void put_total(struct rows *out, const char *name, uint64_t value)
{
    struct total_row *row = rows_add(out, &rows_totals_table);
    row->name = name;
    row->value = value;
}

void rows_fill_totals(const struct rows_from *from, struct rows *out)
{
    struct route_totals total, average;
    samples_add_up(from->samples, from->proxy->registry);
    samples_sum(from->samples, &total, &average);
#define X(name) put_total(out, "total_" #name, total.name);
    ROUTE_COUNTERS(X)
#undef X
#define X(name) put_total(out, "avg_" #name, average.name);
    ROUTE_COUNTERS(X)
#undef X
}
