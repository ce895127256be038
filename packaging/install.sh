#!/bin/sh
# Installs edge-mirror from an unpacked release: `sudo ./install.sh --help`.
# Plain sh, for systems that have little else. Takes all steps again, as often
# as it is run: to upgrade is to run the one of a newer release.
set -eu

# Of the program beside this script; packaging/release writes them.
arch=@ARCH@
glibc=@GLIBC@

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
program=$here/edge-mirror
destdir=${DESTDIR:-}
prefix=${PREFIX:-/usr/local}

# The language that the program speaks.
locale=${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}
say() { # Chinese, English
    case $locale in
    [Zz][Hh]*) printf '%s\n' "$1" ;;
    *) printf '%s\n' "$2" ;;
    esac
}

fail() { # Chinese, English
    say "install.sh：$1" "install.sh: $2" >&2
    exit 1
}

usage() {
    say "\
用法：sudo ./install.sh [edge-mirror install 的选项]
      sudo ./install.sh --uninstall [edge-mirror uninstall 的选项]

安装程序、手册页和命令补全，并安装为系统服务。例如：
  sudo ./install.sh --main-server 10.0.0.5:8000    节点
  sudo ./install.sh --master                       主控服务器
不带选项时会询问。再次运行新版本的 install.sh 即可升级，配置和会议包都会保留。

环境变量：
  PREFIX     安装到其他目录（默认 /usr/local），只安装程序，不安装服务
  DESTDIR    把全部文件放到某个目录下（例如系统镜像），不运行任何系统命令" "\
Usage: sudo ./install.sh [OPTIONS OF edge-mirror install]
       sudo ./install.sh --uninstall [OPTIONS OF edge-mirror uninstall]

Installs the program, its manual pages and completions, and a service:
  sudo ./install.sh --main-server 10.0.0.5:8000    a node
  sudo ./install.sh --master                       a main server
Without options it asks. Run the install.sh of a newer version to upgrade;
configuration and packages are kept.

Environment:
  PREFIX     install into another folder than /usr/local: the program, no service
  DESTDIR    put all files below a folder, such as an image, and run no system
             command"
}

# Of two versions MAJOR.MINOR.
is_older() { # version, than this one
    [ "$1" != "$2" ] &&
        [ "$(printf '%s\n' "$1" "$2" | sort -t . -k 1,1n -k 2,2n | head -n 1)" = "$1" ]
}

check_machine() {
    case $arch in
    @*) fail "这是源代码中的模板，请使用发布的安装包（packaging/release 生成）" \
        "this is the sources' template: use a release's, which packaging/release makes" ;;
    esac
    [ -f "$program" ] || fail "缺少 $program，请完整解压安装包" \
        "$program is missing: unpack all of the release"
    system=$(uname -s) machine=$(uname -m)
    [ "$machine" != arm64 ] || machine=aarch64
    [ "$system $machine" = "Linux $arch" ] ||
        fail "此安装包用于 Linux $arch，本机是 $system $machine；请下载对应的安装包" \
            "this release is for Linux on $arch, but this is $system on $machine: download the one for it"
    if [ -n "$glibc" ]; then
        has=$(getconf GNU_LIBC_VERSION 2>/dev/null) || has=
        has=${has#glibc }
        [ -n "$has" ] || fail "需要 glibc $glibc 或更新版本，本机没有 glibc（可能使用 musl）；请使用容器，或在本机编译" \
            "glibc $glibc or newer is required, but this system has none (musl, probably): use a container, or build edge-mirror here"
        ! is_older "$has" "$glibc" || fail "需要 glibc $glibc 或更新版本，本机是 $has；请升级系统、使用容器，或在本机编译" \
            "glibc $glibc or newer is required, but this system has $has: upgrade it, use a container, or build edge-mirror here"
    fi
    why=$("$program" --version 2>&1) ||
        fail "$program 无法运行：$why" "$program does not run: $why"
}

# Whether files can be made in it; the folder itself may not be there yet.
is_writable() { # folder
    above=$1
    while ! [ -e "$above" ]; do above=$(dirname -- "$above"); done
    [ -w "$above" ]
}

check_rights() {
    for folder in bin share; do
        is_writable "$destdir$prefix/$folder" ||
            fail "没有写入 $destdir$prefix 的权限，请使用 sudo；或用 PREFIX=\$HOME/.local 只安装程序" \
                "$destdir$prefix cannot be written to: use sudo, or PREFIX=\$HOME/.local for the program alone"
    done
}

check_no_package() {
    for folder in /lib/systemd/system /usr/lib/systemd/system; do
        [ ! -e "$destdir$folder/edge-mirror.service" ] ||
            fail "已安装 Debian 软件包，请用 apt install ./edge-mirror_*.deb 升级，或先用 apt remove edge-mirror 卸载" \
                "the Debian package is installed: upgrade it with apt install ./edge-mirror_*.deb, or remove it first (apt remove edge-mirror)"
    done
}

# A service is installed where systemd runs, or will (DESTDIR). Its unit names
# /usr/local.
has_service() {
    [ "$prefix" = /usr/local ] && { [ -n "$destdir" ] || [ -d /run/systemd/system ]; }
}

# A program that runs can't be written to, but replaced.
place() { # file, target, mode
    mkdir -p -- "$(dirname -- "$2")"
    cp -- "$1" "$2.new"
    chmod "$3" "$2.new"
    mv -f -- "$2.new" "$2"
}

# The paths of manual pages and completions below share/.
shared() {
    (cd "$here" && find share -type f)
}

install_all() {
    check_machine
    check_no_package
    check_rights
    if has_service || [ $# -gt 0 ]; then
        [ "$prefix" = /usr/local ] || fail "服务使用 /usr/local 中的程序，因此设置 PREFIX 时不能带选项" \
            "a service uses the program in /usr/local: there are no options with PREFIX"
        # It checks everything before it changes anything, and places itself.
        "$program" install ${destdir:+--root "$destdir"} "$@" || exit
    else
        place "$program" "$destdir$prefix/bin/edge-mirror" 755
        say "已安装 $destdir$prefix/bin/edge-mirror，未安装服务。运行节点：
  $prefix/bin/edge-mirror node --config node_config.json
运行主控服务器：
  $prefix/bin/edge-mirror master --data master-data
在使用 systemd 的机器上安装为服务：
  sudo $here/install.sh" \
            "installed $destdir$prefix/bin/edge-mirror, and no service. To run a node:
  $prefix/bin/edge-mirror node --config node_config.json
To run a main server:
  $prefix/bin/edge-mirror master --data master-data
To install a service on a machine with systemd:
  sudo $here/install.sh"
    fi
    shared | while read -r path; do place "$here/$path" "$destdir$prefix/$path" 644; done
    say "手册页和命令补全：$destdir$prefix/share" "manual pages and completions: $destdir$prefix/share"
    say "卸载：$here/install.sh --uninstall" "to uninstall: $here/install.sh --uninstall"
}

uninstall() {
    check_rights
    installed=$destdir$prefix/bin/edge-mirror
    if has_service; then
        "$program" uninstall ${destdir:+--root "$destdir"} "$@" || exit
        # A node and a main server are one program: it stays for the other one.
        [ ! -e "$installed" ] || return 0
    fi
    rm -f -- "$installed"
    shared | while read -r path; do rm -f -- "$destdir$prefix/$path"; done
    say "已删除程序、手册页和命令补全" "program, manual pages and completions removed"
}

case ${1:-} in
-h | --help) usage ;;
--uninstall)
    shift
    uninstall "$@"
    ;;
*) install_all "$@" ;;
esac
