import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

/** One Elasticsearch 8 node, with the modules in its home. */
public final class Elasticsearch8 implements EngineProcess.Engine {
    private final Node node;

    public static void main(String[] pairs) {
        EngineProcess.run(pairs, Elasticsearch8::new);
    }

    private Elasticsearch8(Map<String, String> given) {
        Settings settings = Settings.builder().putProperties(given, key -> key).build();
        LogConfigurator.registerErrorListener();
        LogConfigurator.configureWithoutConfig(settings);
        Environment environment = InternalSettingsPreparer.prepareEnvironment(
                settings, Map.of(), Path.of(given.get("path.home"), "config"), () -> given.get("node.name"));
        var modules = PluginsLoader.loadModulesBundles(environment.modulesDir());
        node = new Node(environment, PluginsLoader.createPluginsLoader(modules, Set.of(), Map.of()));
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
}
