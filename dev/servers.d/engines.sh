# The search engines: Elasticsearch 9, 8.19 and 7.17, OpenSearch 3, 2.19 and 1.3. Sourced by dev/servers after fetch.sh and process.sh.
#
#   .dev/dist/ENGINE-VERSION/core/          the engine's jars and all they need
#   .dev/dist/ENGINE-VERSION/modules/       of Elasticsearch 8 and 9 the network layer, which wants a class loader of its own
#   .dev/dist/opensearch-geo-VERSION/       of OpenSearch 3 the module with geo_shape
#   .dev/dist/ENGINE-VERSION/launcher-SUM/  dev/launcher, compiled against them
#
# What the distributions add is not on Maven Central and so not here: docs/contributing.md lists it.
# shellcheck shell=bash disable=SC2154  # root, dist_dir, instance and the versions are those of the other files

# Elasticsearch 8 and 9 are Java modules; the others run from the class path.
is_modular() { # SERVER
    [[ "$1" == elasticsearch || "$1" == elasticsearch8 ]]
}

fetch_engine() { # SERVER
    find_java || { fetch_once "a JDK" "$jdk_dist" unpack_debian sid "$JDK_PACKAGE" && find_java; } ||
        die "No Java 21 or newer, and none could be fetched."
    fetch_once "$1" "$(dist_of "$1")" unpack_engine "$1"
    [[ "$1" != opensearch ]] || fetch_once "geo_shape of $1" "$(geo_dist)" unpack_geo
    compile_launcher "$1"
}

# OpenSearch 3 alone has geo_shape: so it is tried both ways.
geo_dist() {
    echo "$dist_dir/opensearch-geo-$OPENSEARCH_VERSION"
}

unpack_geo() { # SCRATCH TREE
    # Its pom does not name the two that it needs beside it: without them a shape that crosses itself ends the thread that indexes it.
    download_jars "$1" "$2" "org.opensearch.plugin:geo:$OPENSEARCH_VERSION" \
        "org.locationtech.spatial4j:spatial4j:$OPENSEARCH_SPATIAL4J_VERSION" "org.locationtech.jts:jts-core:$OPENSEARCH_JTS_VERSION"
}

unpack_engine() { # SCRATCH TREE SERVER
    local scratch="$1" tree="$2" server="$3" version artifacts
    local module="$tree/modules/transport-netty4"
    version="$(pinned_version "$server")"
    case "$server" in
    elasticsearch | elasticsearch8)
        artifacts=("org.elasticsearch:elasticsearch:$version" "org.elasticsearch.plugin:transport-netty4:$version")
        ;;
    elasticsearch7)
        artifacts=("org.elasticsearch:elasticsearch:$version" "org.elasticsearch.plugin:transport-netty4-client:$version")
        ;;
    opensearch*)
        # OpenSearch asks for log4j's interface alone. The first named decides the version of both.
        artifacts=("org.apache.logging.log4j:log4j-core:$OPENSEARCH_LOG4J_VERSION"
            "org.opensearch:opensearch:$version" "org.opensearch.plugin:transport-netty4-client:$version")
        ;;
    esac
    mkdir -p "$tree/core" "$tree/config" "$tree/modules"
    download_jars "$scratch" "$tree/core" "${artifacts[@]}"
    is_modular "$server" || return 0
    mkdir "$module"
    mv "$tree"/core/transport-netty4-*.jar "$tree"/core/netty-*.jar "$module/"
    (cd "$scratch" && quietly "unpacking the transport" "${java[@]}" -m jdk.jartool/sun.tools.jar.Main \
        xf "$module/transport-netty4-$version.jar" META-INF/es-plugins/transport-netty4)
    mv "$scratch"/META-INF/es-plugins/transport-netty4/* "$module/"
}

# ---- Java ------------------------------------------------------------------------------------------------------------------------

jdk_dist="$dist_dir/$JDK_PACKAGE"

# Sets the array `java` to the newest JDK of 21 or newer: of JAVA_HOME, /usr/lib/jvm, PATH, else the one fetched here. All the engines,
# the oldest too, run on Java 25.
find_java() {
    local candidate version newest=20 home
    java=()
    for candidate in "${JAVA_HOME:+$JAVA_HOME/bin/java}" /usr/lib/jvm/*/bin/java "$(type -P java || true)"; do
        [[ -n "$candidate" && -x "$candidate" ]] || continue
        version="$("$candidate" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)"
        # A runtime without a compiler cannot make the launcher.
        if ((${version:-0} > newest)) && "$candidate" --list-modules 2>/dev/null | grep -q '^jdk\.compiler@'; then
            newest="$version" java=("$candidate")
        fi
    done
    ((${#java[@]} == 0)) || return 0
    [[ -d "$jdk_dist" ]] || return 1
    for home in "$jdk_dist"/usr/lib/jvm/*/; do
        [[ -x "$home/bin/java" && ! -L "${home%/}" ]] || continue
        home="${home%/}"
        load_from "$jdk_dist" "$home/lib:$home/lib/server"
        java=("${loaded[@]}" "$home/bin/java")
        return 0
    done
    return 1
}

# The class in dev/launcher that starts it.
launcher_of() { # SERVER
    case "$1" in
    elasticsearch) echo Elasticsearch9 ;;
    elasticsearch8) echo Elasticsearch8 ;;
    elasticsearch7) echo Elasticsearch7 ;;
    opensearch) echo OpenSearch3 ;;
    opensearch2 | opensearch1) echo OpenSearch2 ;;
    esac
}

# Where the launcher is compiled to for this version of the engine and of its source: the folder's name says both, so an old one is
# never run.
launcher_dir() { # SERVER
    local sum
    sum="$(cat "$root/dev/launcher/EngineProcess.java" "$root/dev/launcher/$(launcher_of "$1").java" | sha256sum)"
    echo "$(dist_of "$1")/launcher-${sum:0:12}"
}

compile_launcher() { # SERVER
    local folder dist jars
    folder="$(launcher_dir "$1")" dist="$(dist_of "$1")"
    [[ ! -d "$folder" ]] || return 0
    half_made="$(mktemp -d "$dist/.launcher-XXXXXX")"
    # The compiler itself knows no wildcards.
    jars=("$dist"/core/*.jar)
    quietly "compiling the launcher" "${java[@]}" -m jdk.compiler/com.sun.tools.javac.Main --release 21 \
        -cp "$(IFS=: && echo "${jars[*]}")" -d "$half_made" "$root/dev/launcher/EngineProcess.java" \
        "$root/dev/launcher/$(launcher_of "$1").java"
    chmod 755 "$half_made"
    # Whoever else compiled it meanwhile made the same.
    mv -T "$half_made" "$folder" 2>/dev/null || rm -rf "$half_made"
    half_made=''
}

# ---- running ---------------------------------------------------------------------------------------------------------------------

prepare_engine() { # SERVER FOLDER
    mkdir -p "$2/data" "$2/tmp"
    pinned_version "$1" >"$2/version"
}

# The newest of each kind is what the benches measure; the others need little.
heap_of() { # SERVER
    case "$1" in
    elasticsearch | opensearch) echo "${ES_HEAP:-1g}" ;;
    *) echo "${ES_HEAP:-512m}" ;;
    esac
}

start_engine() { # SERVER FOLDER
    local server="$1" dir="$2" port heap dist options geo=''
    [[ "$server" != opensearch ]] || geo=":$(geo_dist)/*"
    port="$(<"$dir/port")" heap="$(heap_of "$server")" dist="$(dist_of "$server")"
    options=("-Xms$heap" "-Xmx$heap" "-Djava.io.tmpdir=$dir/tmp" -Dfile.encoding=UTF-8 -Djava.awt.headless=true
        -Dlog4j2.disable.jmx=true "-XX:ErrorFile=$dir/hs_err.log" --add-modules=jdk.incubator.vector "-Des.path.home=$dist")
    if is_modular "$server"; then
        # shellcheck disable=SC2054  # the comma is Java's
        options+=(--enable-native-access=ALL-UNNAMED,org.apache.lucene.core
            --module-path "$dist/core" --add-modules=ALL-MODULE-PATH -cp "$(launcher_dir "$server")")
    else
        options+=(--enable-native-access=ALL-UNNAMED -cp "$(launcher_dir "$server"):$dist/core/*$geo")
    fi
    launch "$server" "${java[@]}" "${options[@]}" "$(launcher_of "$server")" \
        "path.home=$dist" "path.data=$dir/data" "path.logs=$dir/" "path.repo=$dir/backups" "cluster.name=everrelay-$instance" "node.name=$instance" \
        discovery.type=single-node network.host=127.0.0.1 "http.port=$port" transport.port=0 \
        logger.level=INFO cluster.routing.allocation.disk.threshold_enabled=false
}

engine_is_ready() { # SERVER FOLDER
    local answer
    answer="$(curl -s --noproxy '*' -m 5 "http://127.0.0.1:$(<"$2/port")/_cluster/health?wait_for_status=yellow&timeout=2s")" &&
        [[ "$answer" == *'"timed_out":false'* ]]
}
