import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.CountDownLatch;

/**
 * What the launchers beside this file share: the life of a process that is one node of a search engine, made from the engine's jars, which lack the starter
 * of its distribution.
 *
 * <p>Usage: {@code java -cp … LAUNCHER KEY=VALUE…}, each pair a setting of the node. The node runs until SIGTERM, which closes it in order (indices
 * flushed, files released). A failed start ends the process with status 1.
 */
final class EngineProcess {
    /** One node, made but not started. */
    interface Engine {
        void start() throws Exception;

        /** Returns when the node is closed, or has taken too long. */
        void close() throws Exception;
    }

    /** Makes the node of the settings. */
    interface Maker {
        Engine make(Map<String, String> settings) throws Exception;
    }

    private EngineProcess() {}

    static void run(String[] pairs, Maker maker) {
        try {
            Map<String, String> settings = new LinkedHashMap<>();
            for (String pair : pairs) {
                int equals = pair.indexOf('=');
                settings.put(pair.substring(0, equals), pair.substring(equals + 1));
            }
            Engine engine = maker.make(settings);
            CountDownLatch closed = new CountDownLatch(1);
            Runtime.getRuntime().addShutdownHook(new Thread(() -> {
                try {
                    engine.close();
                } catch (Exception failure) {
                    failure.printStackTrace();
                } finally {
                    closed.countDown();
                }
            }, "close-node"));
            engine.start();
            closed.await();
        } catch (Throwable failure) {
            // The node has started threads that would keep a failed process alive.
            failure.printStackTrace();
            System.exit(1);
        }
    }
}
