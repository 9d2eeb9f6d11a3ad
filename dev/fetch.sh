# Fetching the servers' software from package registries into .dev/dist, once, for all instances. Sourced by dev/servers after lib.sh.
#
# Elasticsearch comes from Maven Central, where its distribution is not but all its jars are; MySQL, and a JDK where the machine has none,
# from Debian unstable, unpacked beside the system and run through the loader and the libraries that they came with.
# shellcheck shell=bash disable=SC2154  # dev_dir, root and the versions are lib.sh's

# ---- platform --------------------------------------------------------------------------------------------------------------------

set_platform() {
    case "$(uname -m)" in
    x86_64) triplet=x86_64-linux-gnu loader=ld-linux-x86-64.so.2 ;;
    aarch64) triplet=aarch64-linux-gnu loader=ld-linux-aarch64.so.1 ;;
    *) die "No Debian packages of the servers are known for $(uname -m): x86_64 and aarch64 only." ;;
    esac
}

# Sets the array `loaded` to what runs a program of a Debian tree that was unpacked beside the system: its own loader and libraries.
load_from() { # TREE [MORE_LIBRARY_FOLDERS]
    local lib="$1/usr/lib/$triplet"
    loaded=("$lib/$loader" --library-path "$lib${2:+:$2}")
}

# ---- fetching --------------------------------------------------------------------------------------------------------------------

dist_dir="$dev_dir/dist"
mysql_dist="$dist_dir/mysql-$MYSQL_VERSION"
elasticsearch_dist="$dist_dir/elasticsearch-$ELASTICSEARCH_VERSION"
jdk_dist="$dist_dir/$JDK_PACKAGE"

fetch() { # SERVER
    case "$1" in
    mysql) fetch_once mysql "$mysql_dist" unpack_mysql ;;
    elasticsearch)
        find_java || { fetch_once "a JDK" "$jdk_dist" unpack_jdk && find_java; } || die "No Java 21 or newer, and none could be fetched."
        fetch_once elasticsearch "$elasticsearch_dist" unpack_elasticsearch
        compile_launcher
        ;;
    esac
}

half_made='' # the temporary folder of a fetch or of a data folder in the making, for the trap

# One at a time, and complete or absent: made in a temporary folder, then renamed.
fetch_once() { # NAME FOLDER FUNCTION
    [[ ! -d "$2" ]] || return 0
    local lock start=$SECONDS
    mkdir -p "$dist_dir"
    take_lock "$dist_dir/.lock" 1200 "another dev/servers that fetches"
    lock=$lock_fd
    if [[ ! -d "$2" ]]; then
        say "fetching $1"
        # What a killed fetch left behind; nobody else works here under the lock.
        rm -rf "$dist_dir"/.fetch-*
        half_made="$(mktemp -d "$dist_dir/.fetch-XXXXXX")"
        mkdir "$half_made/tree"
        "$3" "$half_made" "$half_made/tree"
        chmod 755 "$half_made/tree"
        mv -T "$half_made/tree" "$2"
        rm -rf "$half_made"
        half_made=''
        say "fetched $1 in $((SECONDS - start)) s"
    fi
    exec {lock}>&-
}

# Unpacks packages of Debian unstable and all they need into TREE, without touching the system: an apt of its own that verifies with
# Debian's keyring, takes the machine's mirror and believes that nothing is installed.
unpack_debian() { # SCRATCH TREE PACKAGE…
    local scratch="$1" tree="$2" keyring=/usr/share/keyrings/debian-archive-keyring.gpg mirror archive apt link target
    shift 2
    need_tools apt-get:apt dpkg-deb:dpkg
    [[ -e "$keyring" ]] || install_packages debian-archive-keyring
    # shellcheck disable=SC2016  # apt-get expands it
    mirror="$(apt-get indextargets --format '$(REPO_URI) $(LABEL)' 2>/dev/null | awk '$2 == "Debian" || $1 ~ /\/debian\/?$/ { print $1; exit }')"
    [[ -n "$mirror" ]] || die "apt knows no Debian mirror: its sources should name one (apt-get indextargets)"
    mkdir -p "$scratch/apt/lists/partial" "$scratch/apt/cache/archives/partial"
    : >"$scratch/apt/status"
    printf 'deb [signed-by=%s] %s sid main\n' "$keyring" "$mirror" >"$scratch/apt/sources.list"
    apt=(apt-get -qq -y
        -o "Dir::Etc::sourcelist=$scratch/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o Dir::Etc::preferences=/dev/null -o "Dir::State=$scratch/apt" -o "Dir::State::lists=$scratch/apt/lists"
        -o "Dir::State::status=$scratch/apt/status" -o "Dir::Cache=$scratch/apt/cache"
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::IndexTargets::deb::Translations::DefaultEnabled=false
        -o APT::Sandbox::User="$(id -un)" -o APT::Install-Recommends=false -o Debug::NoLocking=true)
    quietly "reading the package lists of Debian unstable" "${apt[@]}" update
    quietly "downloading from Debian unstable" "${apt[@]}" --download-only install "$@"
    for archive in "$scratch"/apt/cache/archives/*.deb; do
        quietly "unpacking $archive" dpkg-deb -x "$archive" "$tree"
    done
    # Links that name the system's root (a JDK's settings below /etc) are turned to the tree.
    while IFS= read -r -d '' link; do
        target="$tree$(readlink "$link")"
        [[ ! -e "$target" ]] || ln -sfnr "$target" "$link"
    done < <(find "$tree" -type l -lname '/*' -print0)
}

unpack_mysql() { # SCRATCH TREE
    unpack_debian "$1" "$2" "mysql-server-core=$MYSQL_VERSION.*" "mysql-client-core=$MYSQL_VERSION.*"
}

unpack_jdk() { # SCRATCH TREE
    unpack_debian "$1" "$2" "$JDK_PACKAGE"
}

unpack_elasticsearch() { # SCRATCH TREE
    local scratch="$1" tree="$2" module="$2/modules/transport-netty4" artifact
    need_tools mvn:maven
    mkdir -p "$module" "$tree/core" "$tree/config"
    {
        echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        echo '<groupId>everrelay.dev</groupId><artifactId>elasticsearch</artifactId><version>1</version><dependencies>'
        for artifact in org.elasticsearch:elasticsearch org.elasticsearch.plugin:transport-netty4; do
            printf '<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version></dependency>\n' \
                "${artifact%:*}" "${artifact#*:}" "$ELASTICSEARCH_VERSION"
        done
        echo '</dependencies></project>'
    } >"$scratch/pom.xml"
    quietly "downloading from Maven Central" mvn -q -B -ntp -f "$scratch/pom.xml" \
        "org.apache.maven.plugins:maven-dependency-plugin:$MAVEN_DEPENDENCY_PLUGIN_VERSION:copy-dependencies" \
        -DincludeScope=runtime "-DoutputDirectory=$tree/core"
    # The network layer is a module with a class loader of its own; the rest is the server.
    mv "$tree"/core/transport-netty4-*.jar "$tree"/core/netty-*.jar "$module/"
    (cd "$scratch" && quietly "unpacking the transport" "${java[@]}" -m jdk.jartool/sun.tools.jar.Main \
        xf "$module/transport-netty4-$ELASTICSEARCH_VERSION.jar" META-INF/es-plugins/transport-netty4)
    mv "$scratch"/META-INF/es-plugins/transport-netty4/* "$module/"
}

# ---- Java ------------------------------------------------------------------------------------------------------------------------

# Sets the array `java` to the newest JDK of 21 or newer: of JAVA_HOME, /usr/lib/jvm, PATH, else the one fetched here.
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

# Compiles dev/launcher for this version of Elasticsearch and of the source: the folder's name says both, so an old one is never run.
compile_launcher() {
    local source="$root/dev/launcher/Elasticsearch9.java" sum made jars
    sum="$(sha256sum "$source")"
    launcher_dir="$elasticsearch_dist/launcher-${sum:0:12}"
    [[ ! -d "$launcher_dir" ]] || return 0
    made="$(mktemp -d "$elasticsearch_dist/.launcher-XXXXXX")"
    jars=("$elasticsearch_dist"/core/*.jar)
    quietly "compiling the launcher" "${java[@]}" -m jdk.compiler/com.sun.tools.javac.Main --release 21 \
        -cp "$(IFS=: && echo "${jars[*]}")" -d "$made" "$source"
    chmod 755 "$made"
    # Whoever else compiled it meanwhile made the same.
    mv -T "$made" "$launcher_dir" 2>/dev/null || rm -rf "$made"
}
