# Fetching the servers' software from package registries into .dev/dist, once, for all instances. Sourced by dev/servers after lib.sh.
#
# The search engines come from Maven Central, where their distributions are not but all their jars are; the databases, and a JDK where
# the machine has none, from Debian, unpacked beside the system and run through the loader and the libraries that they came with.
# shellcheck shell=bash disable=SC2154,SC2034  # dev_dir, root and the versions are lib.sh's

dist_dir="$dev_dir/dist"

# The version of a server that dev/versions.env names.
pinned_version() { # SERVER
    local name="${1^^}_VERSION"
    echo "${!name}"
}

# Where a server's software is: mariadb10 in mariadb-10.11.
dist_of() { # SERVER
    echo "$dist_dir/${1%%[0-9]*}-$(pinned_version "$1")"
}

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
    local lib="$1/usr/lib/$triplet" loaders
    # Debian 12 has its C library in /lib still.
    loaders=("$1"/{usr/,}lib/"$triplet/$loader")
    [[ -e "${loaders[0]}" ]] || loaders=("${loaders[1]}")
    loaded=("${loaders[0]}" --library-path "$lib:$1/lib/$triplet${2:+:$2}")
}

# ---- fetching --------------------------------------------------------------------------------------------------------------------

half_made='' # the temporary folder of a fetch or of a data folder in the making, for the trap

# One at a time, and complete or absent: made in a temporary folder, then renamed.
fetch_once() { # NAME FOLDER FUNCTION [ARGUMENT…]   (the function is given SCRATCH TREE ARGUMENT…)
    local name="$1" folder="$2" unpack="$3" lock start=$SECONDS
    shift 3
    [[ ! -d "$folder" ]] || return 0
    mkdir -p "$dist_dir"
    take_lock "$dist_dir/.lock" 1200 "another dev/servers that fetches"
    lock=$lock_fd
    if [[ ! -d "$folder" ]]; then
        say "fetching $name"
        # What a killed fetch left behind; nobody else works here under the lock.
        rm -rf "$dist_dir"/.fetch-*
        half_made="$(mktemp -d "$dist_dir/.fetch-XXXXXX")"
        mkdir "$half_made/tree"
        "$unpack" "$half_made" "$half_made/tree" "$@"
        chmod 755 "$half_made/tree"
        mv -T "$half_made/tree" "$folder"
        rm -rf "$half_made"
        half_made=''
        say "fetched $name in $((SECONDS - start)) s"
    fi
    exec {lock}>&-
}

# Unpacks packages of a suite of Debian and all they need into TREE, without touching the system: an apt of its own that verifies with
# Debian's keyring, takes the machine's mirror and believes that nothing is installed.
unpack_debian() { # SCRATCH TREE SUITE PACKAGE…
    local scratch="$1" tree="$2" suite="$3" keyring=/usr/share/keyrings/debian-archive-keyring.gpg mirror archive apt link target
    shift 3
    need_tools apt-get:apt dpkg-deb:dpkg
    [[ -e "$keyring" ]] || install_packages debian-archive-keyring
    # shellcheck disable=SC2016  # apt-get expands it
    mirror="$(apt-get indextargets --format '$(REPO_URI) $(LABEL)' 2>/dev/null | awk '$2 == "Debian" || $1 ~ /\/debian\/?$/ { print $1; exit }')"
    [[ -n "$mirror" ]] || die "apt knows no Debian mirror: its sources should name one (apt-get indextargets)"
    mkdir -p "$scratch/apt/lists/partial" "$scratch/apt/cache/archives/partial"
    : >"$scratch/apt/status"
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >"$scratch/apt/sources.list"
    apt=(apt-get -qq -y
        -o "Dir::Etc::sourcelist=$scratch/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o Dir::Etc::preferences=/dev/null -o "Dir::State=$scratch/apt" -o "Dir::State::lists=$scratch/apt/lists"
        -o "Dir::State::status=$scratch/apt/status" -o "Dir::Cache=$scratch/apt/cache"
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::IndexTargets::deb::Translations::DefaultEnabled=false
        -o APT::Sandbox::User="$(id -un)" -o APT::Install-Recommends=false -o Debug::NoLocking=true)
    quietly "reading the package lists of Debian $suite" "${apt[@]}" update
    quietly "downloading from Debian $suite" "${apt[@]}" --download-only install "$@"
    for archive in "$scratch"/apt/cache/archives/*.deb; do
        quietly "unpacking $archive" dpkg-deb -x "$archive" "$tree"
    done
    # Links that name the system's root (a JDK's settings below /etc) are turned to the tree.
    while IFS= read -r -d '' link; do
        target="$tree$(readlink "$link")"
        [[ ! -e "$target" ]] || ln -sfnr "$target" "$link"
    done < <(find "$tree" -type l -lname '/*' -print0)
}

# Puts artifacts of Maven Central, written GROUP:NAME:VERSION, and all they need to run into FOLDER.
download_jars() { # SCRATCH FOLDER ARTIFACT…
    local scratch="$1" folder="$2" artifact group name version
    shift 2
    need_tools mvn:maven
    {
        echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        echo '<groupId>everrelay.dev</groupId><artifactId>server</artifactId><version>1</version><dependencies>'
        for artifact in "$@"; do
            IFS=: read -r group name version <<<"$artifact"
            printf '<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version></dependency>\n' \
                "$group" "$name" "$version"
        done
        echo '</dependencies></project>'
    } >"$scratch/pom.xml"
    quietly "downloading from Maven Central" mvn -q -B -ntp -f "$scratch/pom.xml" \
        "org.apache.maven.plugins:maven-dependency-plugin:$MAVEN_DEPENDENCY_PLUGIN_VERSION:copy-dependencies" \
        -DincludeScope=runtime "-DoutputDirectory=$folder"
}
