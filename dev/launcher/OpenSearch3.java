import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.opensearch.Version;
import org.opensearch.common.logging.LogConfigurator;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.plugins.PluginInfo;
import org.opensearch.transport.Netty4ModulePlugin;

/** One OpenSearch 3 node, all of it on the class path. */
public final class OpenSearch3 implements EngineProcess.Engine {
    private final Node node;

    public static void main(String[] pairs) {
        EngineProcess.run(pairs, OpenSearch3::new);
    }

    private OpenSearch3(Map<String, String> given) {
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
        /** `geo_shape`: a module of its own, which nothing here is compiled against. */
        private static final String GEO = "org.opensearch.geo.GeoModulePlugin";

        ClassPathNode(Environment environment) {
            super(environment, List.of(fromClassPath(Netty4ModulePlugin.class.getName()), fromClassPath(GEO)), true);
        }

        private static PluginInfo fromClassPath(String plugin) {
            String java = Integer.toString(Runtime.version().feature());
            return new PluginInfo(plugin, "on the class path", "NA", Version.CURRENT, java, plugin, List.of(), false);
        }
    }
}
