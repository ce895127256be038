#!/bin/sh
# Installs edge-mirror from an unpacked release: `sudo ./install.sh --help`.
# Plain sh, for systems that have little else. Takes all steps again, as often
# as it is run: to upgrade is to run the one of a newer release.
set -eu
# Whatever the caller's is: what is installed is for all users.
umask 022

# Of the program beside this script; packaging/release writes them.
arch=@ARCH@
glibc=@GLIBC@

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
program=$here/edge-mirror
destdir=${DESTDIR:-}
prefix=${PREFIX:-/usr/local}
# A folder's name has no slash at its end: /usr/local/ is /usr/local.
while [ "$prefix" != "${prefix%/}" ]; do prefix=${prefix%/}; done
case $destdir in
'' | /*) ;;
*) destdir=$PWD/$destdir ;;
esac

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
  PREFIX     安装到其他目录（默认 /usr/local），只安装程序，不安装服务：
             PREFIX=\$HOME/.local ./install.sh
             sudo PREFIX=/opt/edge-mirror ./install.sh
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
             PREFIX=\$HOME/.local ./install.sh
             sudo PREFIX=/opt/edge-mirror ./install.sh
  DESTDIR    put all files below a folder, such as an image, and run no system
             command"
}

# Of two versions MAJOR.MINOR.
is_older() { # version, than this one
    [ "$1" != "$2" ] &&
        [ "$(printf '%s\n' "$1" "$2" | sort -t . -k 1,1n -k 2,2n | head -n 1)" = "$1" ]
}

check_release() {
    case $arch in
    @*) fail "这是源代码中的模板，请使用发布的安装包（packaging/release 生成）" \
        "this is the sources' template: use a release's, which packaging/release makes" ;;
    esac
    for part in "$program" "$here/share"; do
        [ -e "$part" ] || fail "缺少 $part，请完整解压安装包" "$part is missing: unpack all of the release"
    done
    case $prefix in
    '' | /*) ;;
    *) fail "PREFIX 必须是绝对路径：$prefix" "PREFIX must be an absolute path: $prefix" ;;
    esac
}

check_machine() {
    system=$(uname -s) machine=$(uname -m)
    [ "$machine" != arm64 ] || machine=aarch64
    [ "$system $machine" = "Linux $arch" ] ||
        fail "此安装包用于 Linux $arch，本机是 $system $machine；请下载对应的安装包" \
            "this release is for Linux on $arch, but this is $system on $machine: download the one for it"
    why=$("$program" --version 2>&1) || explain_failure
}

# Says why the program does not run. The C library is the usual cause.
explain_failure() {
    if [ -n "$glibc" ]; then
        has=$(getconf GNU_LIBC_VERSION 2>/dev/null) || has=
        has=${has#glibc }
        [ -n "$has" ] || fail "需要 glibc $glibc 或更新版本，本机没有 glibc（可能使用 musl）；请使用容器，或在本机编译" \
            "glibc $glibc or newer is required, but this system has none (musl, probably): use a container, or build edge-mirror here"
        ! is_older "$has" "$glibc" || fail "需要 glibc $glibc 或更新版本，本机是 $has；请升级系统、使用容器，或在本机编译" \
            "glibc $glibc or newer is required, but this system has $has: upgrade it, use a container, or build edge-mirror here"
    fi
    fail "$program 无法运行：$why" "$program does not run: $why"
}

# The folder itself may not be there yet.
check_writable() { # folder
    above=$1
    while ! [ -e "$above" ]; do above=$(dirname -- "$above"); done
    [ ! -w "$above" ] || return 0
    # Only the kernel tells why.
    if why=$(LC_ALL=C mktemp "$above/edge-mirror.XXXXXX" 2>&1); then
        rm -f -- "$why"
        return 0
    fi
    case $why in
    *Read-only*) fail "$above 在只读文件系统上；可用 PREFIX 指定其他目录，只安装程序" \
        "$above is on a read-only file system: name another folder with PREFIX, for the program alone" ;;
    *) fail "没有写入 $above 的权限，请使用 sudo；或用 PREFIX=\$HOME/.local 只安装程序" \
        "$above cannot be written to: use sudo, or PREFIX=\$HOME/.local for the program alone" ;;
    esac
}

check_rights() {
    for folder in bin share; do check_writable "$destdir$prefix/$folder"; done
}

# The package's program and the service's would be in each other's way; one
# below another PREFIX is not.
check_no_package() {
    [ "$prefix" = /usr/local ] || return 0
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

# Options are the program's to judge, whether there is a service or not.
is_for_program() { # options
    has_service || [ $# -gt 0 ] || return 1
    [ "$prefix" = /usr/local ] || fail "服务使用 /usr/local 中的程序，因此设置 PREFIX 时不能带选项" \
        "a service uses the program in /usr/local: there are no options with PREFIX"
}

# A program that runs can't be written to, but replaced. What is left of an
# earlier run, or was put there, is not written through.
place() { # file, target, mode
    mkdir -p -- "$(dirname -- "$2")"
    rm -f -- "$2.new"
    cp -- "$1" "$2.new"
    chmod "$3" "$2.new"
    mv -f -- "$2.new" "$2"
}

# The paths of manual pages and completions below share/.
shared() {
    (cd "$here" && find share -type f)
}

quoted() { # word
    case $1 in
    *[!A-Za-z0-9/._-]*) printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")" ;;
    *) printf %s "$1" ;;
    esac
}

# The command that removes what was installed with these options.
undoing() { # options
    if [ "$(id -u)" = 0 ] && command -v sudo >/dev/null; then printf 'sudo '; fi
    [ "$prefix" = /usr/local ] || printf 'PREFIX=%s ' "$(quoted "${prefix:-/}")"
    [ -z "$destdir" ] || printf 'DESTDIR=%s ' "$(quoted "$destdir")"
    printf '%s --uninstall' "$(quoted "$here/install.sh")"
    for option; do
        [ "$option" != --master ] || printf ' --master'
    done
}

install_all() {
    check_release
    check_machine
    check_no_package
    check_rights
    if is_for_program "$@"; then
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
    say "卸载：$(undoing "$@")" "to uninstall: $(undoing "$@")"
}

uninstall() {
    check_release
    check_rights
    by_program=
    if is_for_program "$@"; then
        "$program" uninstall ${destdir:+--root "$destdir"} "$@" || exit
        # A node and a main server are one program: it stays for the other one.
        [ ! -e "$destdir$prefix/bin/edge-mirror" ] || return 0
        by_program=yes
    fi
    removed=
    for path in bin/edge-mirror $(shared); do
        [ -e "$destdir$prefix/$path" ] || continue
        rm -f -- "$destdir$prefix/$path"
        removed=yes
    done
    if [ -n "$removed" ]; then
        say "已删除 $destdir$prefix 中的程序、手册页和命令补全" \
            "program, manual pages and completions removed from $destdir$prefix"
    elif [ -z "$by_program" ]; then
        say "$destdir$prefix 中没有已安装的内容" "nothing of it is installed below $destdir$prefix"
    fi
}

for option; do
    case $option in
    -h | --help)
        usage
        exit
        ;;
    esac
done
case ${1:-} in
--uninstall)
    shift
    uninstall "$@"
    ;;
*) install_all "$@" ;;
esac
