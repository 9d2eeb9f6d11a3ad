# The databases: MySQL 9.7, MariaDB 11.8 and 10.11. Sourced by dev/servers after fetch.sh and process.sh.
# shellcheck shell=bash disable=SC2154,SC2034  # dist_of, loaded, long_signal and the like are those of the other files

fetch_mysql() { # SERVER
    fetch_once "$1" "$(dist_of "$1")" unpack_debian sid "mysql-server-core=$MYSQL_VERSION.*" "mysql-client-core=$MYSQL_VERSION.*"
}

# From the releases of Debian that have these versions for as long as they last. The client's package has mariadb-binlog.
fetch_mariadb() { # SERVER
    local version suite=trixie
    [[ "$1" == mariadb ]] || suite=bookworm
    version="$(pinned_version "$1")"
    fetch_once "$1" "$(dist_of "$1")" unpack_debian "$suite" "mariadb-server-core=1:$version.*" "mariadb-client=1:$version.*"
}

# Sets the array `server_program` to what runs the server, without its data folder.
load_mysql_server() { # SERVER
    local dist
    dist="$(dist_of "$1")"
    load_from "$dist" "$dist/usr/lib/mysql/private"
    server_program=("${loaded[@]}" "$dist/usr/sbin/mysqld" --no-defaults "--basedir=$dist/usr"
        "--plugin-dir=$dist/usr/lib/mysql/plugin" "--lc-messages-dir=$dist/usr/share/mysql"
        "--character-sets-dir=$dist/usr/share/mysql/charsets")
    ((EUID != 0)) || server_program+=(--user=root)
}

load_mariadb_server() { # SERVER
    local dist share
    dist="$(dist_of "$1")" share="$(mariadb_share "$1")"
    load_from "$dist"
    server_program=("${loaded[@]}" "$dist/usr/sbin/mariadbd" --no-defaults "--basedir=$dist/usr"
        "--plugin-dir=$dist/usr/lib/mysql/plugin" "--lc-messages-dir=$share" "--character-sets-dir=$share/charsets")
    ((EUID != 0)) || server_program+=(--user=root)
}

# 10.11 has its messages and its first tables where MySQL has its own, under names that begin alike.
mariadb_share() { # SERVER
    if [[ "$1" == mariadb10 ]]; then
        echo "$(dist_of "$1")/usr/share/mysql"
    else
        echo "$(dist_of "$1")/usr/share/mariadb"
    fi
}

# ---- making the data folder ------------------------------------------------------------------------------------------------------

prepare_mysql() { # SERVER FOLDER
    load_mysql_server "$1"
    note_version "$2"
    [[ ! -d "$2/data" ]] || return 0
    begin_data "$1" "$2"
    make_data "$2" "${server_program[@]}" "--datadir=$half_made" "--tmpdir=$(own_tmp "$2")" --innodb-buffer-pool-size=128M \
        --initialize-insecure
}

# As mariadb-install-db does it, which cannot run a server through a loader: with root@localhost without a password and no anonymous
# user.
prepare_mariadb() { # SERVER FOLDER
    local share first
    load_mariadb_server "$1"
    note_version "$2"
    [[ ! -d "$2/data" ]] || return 0
    begin_data "$1" "$2"
    mkdir "$half_made"
    share="$(mariadb_share "$1")"
    first="$share/${share##*/}"
    {
        # A bootstrapping server takes one statement from a line.
        printf '%s;\n' "create database mysql" "use mysql" "set @auth_root_socket = null"
        cat "${first}_system_tables.sql" "${first}_performance_tables.sql" "${first}_system_tables_data.sql" \
            "$share/maria_add_gis_sp_bootstrap.sql" "${first}_sys_schema.sql"
    } >"$half_made/first.sql"
    # shellcheck disable=SC2016  # the inner shell expands them
    make_data "$2" bash -c 'exec "${@:2}" <"$1"' - "$half_made/first.sql" "${server_program[@]}" "--datadir=$half_made" \
        "--tmpdir=$(own_tmp "$2")" --log-warnings=0 --enforce-storage-engine= --max-allowed-packet=8M --bootstrap
    rm "$2/data/first.sql"
}

# The number of the release, as the program says it.
note_version() { # FOLDER
    "${server_program[@]}" --version | sed -n 's/.* Ver \([0-9.]*\).*/\1/p' >"$1/version"
}

# A MariaDB server that starts removes everybody's temporary tables from the folder that it has for its own.
own_tmp() { # FOLDER
    mkdir -p "$1/tmp"
    echo "$1/tmp"
}

begin_data() { # SERVER FOLDER
    say "$1: making the data folder"
    half_made="$2/data.making"
    rm -rf "$half_made"
}

make_data() { # FOLDER COMMAND…
    local dir="$1" rc=0
    shift
    # It attends to no other signal before it is done.
    long_signal=KILL
    run_long "$dir/log" "$@" || rc=$?
    long_signal=TERM
    if ((rc != 0)); then
        tail -n 20 "$dir/log" >&2
        die "making the data folder ended with status $rc; its log: $dir/log"
    fi
    # Complete or absent, like everything here.
    mv -T "$half_made" "$dir/data"
    half_made=''
}

# ---- running ---------------------------------------------------------------------------------------------------------------------

start_mysql() { # SERVER FOLDER
    local extra
    load_mysql_server "$1"
    read -r -a extra <<<"${MYSQL_EXTRA:-}"
    start_database "$1" "$2" --mysqlx=OFF --gtid-mode=ON --enforce-gtid-consistency=ON "${extra[@]}"
}

# Its domain is not 0, the default, so that whoever forgets about domains is found out.
start_mariadb() { # SERVER FOLDER
    local extra
    load_mariadb_server "$1"
    read -r -a extra <<<"${MARIADB_EXTRA:-}"
    start_database "$1" "$2" --binlog-format=ROW --gtid-domain-id=1 "${extra[@]}"
}

start_database() { # SERVER FOLDER OPTION…
    local server="$1" dir="$2" port socket
    shift 2
    port="$(<"$dir/port")" socket="$(database_socket "$server" "$dir")"
    # What a killed server leaves: it would not start while another process, or a zombie, has the number in there.
    rm -f "$socket" "$socket.lock" "$dir/mysqld.pid"
    # The id tells the instances apart, should one replicate from another.
    launch "$server" "${server_program[@]}" "--datadir=$dir/data" "--tmpdir=$(own_tmp "$dir")" "--pid-file=$dir/mysqld.pid" "--socket=$socket" "--port=$port" \
        --bind-address=127.0.0.1 --secure-file-priv= --max-connections=200 --innodb-buffer-pool-size=128M "--server-id=$port" \
        --log-bin=binlog --binlog-row-metadata=FULL --binlog-row-image=FULL "$@"
}

# A socket's path has at most 107 bytes; a deep checkout has its sockets in the temporary folder.
database_socket() { # SERVER FOLDER
    local sum path="$2/${1%%[0-9]*}.sock"
    if ((${#path} < 107)); then
        echo "$path"
    else
        sum="$(sha256sum <<<"$2")"
        echo "/tmp/everrelay-${sum:0:16}.sock"
    fi
}

mysql_is_ready() { # SERVER FOLDER
    database_client "$1" "$2" mysql -N -e 'select 1' >/dev/null 2>&1
}

mariadb_is_ready() { # SERVER FOLDER
    database_client "$1" "$2" mariadb -N -e 'select 1' >/dev/null 2>&1
}

# Runs a client program of the private tree, connected to the server in FOLDER.
database_client() { # SERVER FOLDER PROGRAM ARGUMENT…
    local server="$1" dir="$2" program="$3" dist charsets
    shift 3
    dist="$(dist_of "$server")"
    case "$server" in
    mysql)
        load_from "$dist" "$dist/usr/lib/mysql/private"
        charsets="$dist/usr/share/mysql/charsets"
        ;;
    mariadb*)
        load_from "$dist"
        charsets="$(mariadb_share "$server")/charsets"
        ;;
    esac
    "${loaded[@]}" "$dist/usr/bin/$program" --no-defaults "--character-sets-dir=$charsets" \
        --user=root "--socket=$(database_socket "$server" "$dir")" "$@"
}
