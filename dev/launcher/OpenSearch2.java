import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.opensearch.common.logging.LogConfigurator;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.transport.Netty4Plugin;

/** One OpenSearch 1 or 2 node, all of it on the class path. */
public final class OpenSearch2 implements EngineProcess.Engine {
    private final Node node;

    public static void main(String[] pairs) {
        EngineProcess.run(pairs, OpenSearch2::new);
    }

    private OpenSearch2(Map<String, String> given) {
        Settings settings = Settings.builder().putProperties(given, key -> key).build();
        LogConfigurator.registerErrorListener();
        LogConfigurator.configureWithoutConfig(settings);
        Environment environment = InternalSettingsPreparer.prepareEnvironment(
                settings, Map.of(), Path.of(given.get("path.home"), "config"), () -> given.get("node.name"));
        node = new ClassPathNode(environment);
    }

    @Override
    public void start() throws Exception {
        node.start();
    }

    @Override
    public void close() throws Exception {
        node.close();
        node.awaitClose(20, TimeUnit.SECONDS);
    }

    /** A node that takes plugins from the class path: what the public constructor does not. */
    private static final class ClassPathNode extends Node {
        ClassPathNode(Environment environment) {
            super(environment, List.of(Netty4Plugin.class), true);
        }
    }
}
