// pgjdbc against a running pgweir: `java -cp postgresql.jar Jdbc.java NAME URL [URL2]`.
// Prints a line of what was seen; an exception, or an exit status other than 0, is a failure.
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;

class Jdbc {
    interface Action {
        void run() throws Exception;
    }

    static void holds(boolean condition, String what) {
        if (!condition)
            throw new AssertionError(what);
    }

    static SQLException fails(String state, Action action) throws Exception {
        try {
            action.run();
        } catch (SQLException e) {
            holds(state.equals(e.getSQLState()), "SQLSTATE " + e.getSQLState() + ": " + e);
            return e;
        }
        throw new AssertionError("no error, wanted " + state);
    }

    static int one(Connection c, int n) throws SQLException {
        try (PreparedStatement p = c.prepareStatement("SELECT ?::int")) {
            p.setInt(1, n);
            try (ResultSet r = p.executeQuery()) {
                r.next();
                return r.getInt(1);
            }
        }
    }

    // The class has one place, and `holder` takes it until its transaction ends.
    static Connection holder(String url) throws SQLException {
        Connection c = DriverManager.getConnection(url);
        c.setAutoCommit(false);
        one(c, 0);
        return c;
    }

    static void goesOn(Connection c, Connection holder) throws SQLException {
        holds(!c.isClosed(), "the driver has closed the connection");
        holder.commit();
        holds(one(c, 42) == 42, "afterwards");
        if (!c.getAutoCommit())
            c.rollback();
        holds(c.isValid(5), "isValid()");
        holder.rollback();
    }

    static String refused(String url) throws Exception {
        Connection holder = holder(url), c = DriverManager.getConnection(url);
        SQLException e = fails("53000", () -> one(c, 1));
        holds(e.getMessage().contains("is being shed") && e.getMessage().contains("retry_after="),
              e.getMessage());
        one(holder, 1);
        goesOn(c, holder);
        return "53000, and the connection is valid";
    }

    static String transactions(String url) throws Exception {
        for (String autosave : Arrays.asList("never", "always", "conservative")) {
            Connection holder = holder(url);
            Connection c = DriverManager.getConnection(url + "&autosave=" + autosave);
            c.setAutoCommit(false);
            one(holder, 1);
            fails("53000", () -> one(c, 1));
            c.rollback();
            goesOn(c, holder);
            holder.close();
            c.close();
        }
        return "refused at BEGIN with autosave never, always, conservative";
    }

    static String batches(String url) throws Exception {
        for (String rewrite : Arrays.asList("false", "true")) {
            Connection holder = holder(url);
            Connection c =
                DriverManager.getConnection(url + "&reWriteBatchedInserts=" + rewrite);
            one(holder, 1);
            try (PreparedStatement p =
                     c.prepareStatement("INSERT INTO jdbc_rows VALUES (?, ?)")) {
                for (int i = 0; i < 300; i++) {
                    p.setInt(1, i);
                    p.setString(2, "x".repeat(100));
                    p.addBatch();
                }
                fails("53000", p::executeBatch);
                holder.commit();
                for (int i = 0; i < 300; i++) {
                    p.setInt(1, i);
                    p.setString(2, "x".repeat(100));
                    p.addBatch();
                }
                holds(p.executeBatch().length == 300, "rows of the batch");
            }
            goesOn(c, holder);
            holder.close();
            c.close();
        }
        return "executeBatch() refused, then whole";
    }

    static String cancelled(String url) throws Exception {
        Connection c = DriverManager.getConnection(url);
        SQLException e = fails("57014", () -> {
            try (Statement s = c.createStatement()) {
                s.execute("SELECT pg_sleep(60)");
            }
        });
        holds(e.getMessage().contains("pgweir: statement of class"), e.getMessage());
        holds(one(c, 7) == 7 && c.isValid(5), "afterwards");
        return "57014 rewritten, and the connection is valid";
    }

    static String login(String url, String state) throws Exception {
        SQLException e = fails(state, () -> DriverManager.getConnection(url));
        holds(e.getMessage().contains("is being shed"), e.getMessage());
        return state;
    }

    static String nextHost(String url) throws Exception {
        try (Connection c = DriverManager.getConnection(url)) {
            holds(one(c, 3) == 3, "on the other host");
        }
        return "went to the next host";
    }

    public static void main(String[] args) throws Exception {
        String url = args[1];
        switch (args[0]) {
        case "refused" -> System.out.println(refused(url));
        case "transactions" -> System.out.println(transactions(url));
        case "batches" -> System.out.println(batches(url));
        case "cancelled" -> System.out.println(cancelled(url));
        case "login" -> System.out.println(login(url, args[2]));
        case "next_host" -> System.out.println(nextHost(url));
        default -> throw new IllegalArgumentException(args[0]);
        }
    }
}
