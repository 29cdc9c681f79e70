// The JDBC driver as its users use it. Arguments: user, password, then a URL for each endpoint;
// the first gets everything, the others a look.

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Timer;
import java.util.TimerTask;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;

public class JdbcChecks {
    static String user;
    static String password;

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static Connection connected(String url) throws SQLException {
        return DriverManager.getConnection(url, user, password);
    }

    static void look(String url) throws SQLException {
        try (Connection connection = connected(url);
                ResultSet rows = connection.createStatement().executeQuery("select 1")) {
            check(rows.next() && rows.getInt(1) == 1, url);
        }
    }

    static void everything(String url) throws Exception {
        try (Connection connection = connected(url);
                Statement statement = connection.createStatement()) {
            PGConnection postgres = connection.unwrap(PGConnection.class);
            statement.execute("drop table if exists jdbc_rows");
            statement.execute("create table jdbc_rows (number int, words text)");
            StringBuilder lines = new StringBuilder();
            for (int number = 0; number < 2000; number++) {
                lines.append(number).append("\trow ").append(number).append(" \u2603\n");
            }
            String copy = "copy jdbc_rows from stdin";
            postgres.getCopyAPI().copyIn(copy, new StringReader(lines.toString()));
            StringWriter copied = new StringWriter();
            postgres.getCopyAPI().copyOut("copy (table jdbc_rows order by 1) to stdout", copied);
            check(copied.toString().equals(lines.toString()), "copied rows");

            // From the fifth time on it is prepared on the server.
            String words = "select words from jdbc_rows where number = ?";
            try (PreparedStatement prepared = connection.prepareStatement(words)) {
                for (int number = 0; number < 8; number++) {
                    prepared.setInt(1, number);
                    ResultSet rows = prepared.executeQuery();
                    check(rows.next() && rows.getString(1).equals("row " + number + " \u2603"), words);
                }
            }

            connection.setAutoCommit(false);
            statement.setFetchSize(500);
            String series = "select n, repeat('x', 100) from generate_series(1, 50000) n";
            long sum = 0;
            try (ResultSet rows = statement.executeQuery(series)) {
                while (rows.next()) sum += rows.getInt(1);
            }
            check(sum == 50000L * 50001 / 2, series);
            connection.commit();
            connection.setAutoCommit(true);

            statement.execute("listen news");
            try (Connection other = connected(url)) {
                other.createStatement().execute("notify news, 'arrived'");
            }
            PGNotification[] heard = postgres.getNotifications(30000);
            check(heard.length == 1 && heard[0].getParameter().equals("arrived"), "news");

            Timer timer = new Timer(true);
            timer.schedule(new TimerTask() {
                public void run() {
                    try {
                        statement.cancel();
                    } catch (SQLException error) {
                        throw new RuntimeException(error);
                    }
                }
            }, 300);
            try {
                statement.execute("select pg_sleep(600)");
                throw new AssertionError("it was not cancelled");
            } catch (SQLException error) {
                check("57014".equals(error.getSQLState()), error.toString());
            }
            statement.execute("drop table jdbc_rows");
        }
    }

    public static void main(String[] args) throws Exception {
        user = args[0];
        password = args[1];
        everything(args[2]);
        for (int at = 3; at < args.length; at++) look(args[at]);
        System.out.println("JDBC " + org.postgresql.Driver.getVersion() + ": " + (args.length - 2) + " endpoints");
    }
}
