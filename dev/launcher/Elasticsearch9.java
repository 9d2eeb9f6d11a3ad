import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

/**
 * One Elasticsearch 9 node from the jars on Maven Central, which lack the distribution's own starter.
 *
 * <p>Usage: {@code java -Des.path.home=HOME … Elasticsearch9 KEY=VALUE…}, each pair a node setting. The node runs until SIGTERM, which closes it in order
 * (indices flushed, files released). A failed start ends the process with status 1.
 */
public final class Elasticsearch9 {
    public static void main(String[] pairs) {
        try {
            run(pairs);
        } catch (Throwable failure) {
            // The node has started threads that would keep a failed process alive.
            failure.printStackTrace();
            System.exit(1);
        }
    }

    private static void run(String[] pairs) throws Exception {
        Settings.Builder settings = Settings.builder();
        for (String pair : pairs) {
            int equals = pair.indexOf('=');
            settings.put(pair.substring(0, equals), pair.substring(equals + 1));
        }
        Settings given = settings.build();
        Path config = Path.of(given.get("path.home"), "config");
        String name = given.get("node.name");

        LogConfigurator.registerErrorListener();
        LogConfigurator.configureWithoutConfig(given);
        Environment environment = InternalSettingsPreparer.prepareEnvironment(given, Map.of(), config, () -> name);
        var modules = PluginsLoader.loadModulesBundles(environment.modulesDir(), false);
        Node node = new Node(environment, PluginsLoader.createPluginsLoader(modules, Set.of(), Map.of()));

        CountDownLatch closed = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
                node.awaitClose(20, TimeUnit.SECONDS);
            } catch (Exception failure) {
                failure.printStackTrace();
            } finally {
                closed.countDown();
            }
        }, "close-node"));
        node.start();
        closed.await();
    }
}
