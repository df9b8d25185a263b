# Start of a task's pod: POSIX sh, run by bash where the image has it. $1 is the text of start_check.py.txt, $2 and $3
# are the administrator's: a script that runs first, and one that takes the place of what follows the check. $4 is the
# text of gather.py.txt for a task on several nodes, else "".
# Constant text: everything about the task comes from the environment, and nothing of the environment is printed.
# All names begin with ck8s_, as scripts of others run in this shell.
# Exit codes: 0 the task is not this pod's to run (any more), 75 the server could not be asked, 78 the image lacks
# something, 143 told to stop before the task was started. From `exec` on, the agent's own.

ck8s_check=$1
ck8s_preparation=${2:-}
ck8s_own=${3:-}
ck8s_gather=${4:-}
# Of a task on several nodes rank 0 alone speaks: the agent of another one is ended without a word.
ck8s_signal=TERM
# What the init container of `bootstrap` has brought, or "": Python, clearml-agent and git that need nothing of the image.
ck8s_bundle=${CLEARML_K8S_BOOTSTRAP:-}
readonly ck8s_check ck8s_own ck8s_gather ck8s_bundle
ck8s_child=
ck8s_stage="starting"

ck8s_say() {
    printf 'clearml-k8s: %s\n' "$*"
}

ck8s_fail() {
    ck8s_code=$1
    shift
    ck8s_stage=
    ck8s_say "the task cannot be started: $*"
    # What stands here becomes the container's termination message, which the controller tells the user.
    if [ -w /dev/termination-log ]; then printf '%s\n' "$*" >/dev/termination-log; fi
    exit "$ck8s_code"
}

# As process 1 the shell gets no default signal action, and `wait`, unlike a foreground command, is interrupted at once.
ck8s_stop() {
    ck8s_stage=
    if [ -n "$ck8s_child" ]; then kill -TERM "$ck8s_child" 2>/dev/null; fi
    ck8s_say "told to stop before the task was started"
    exit 143
}

ck8s_ended() {
    ck8s_code=$?
    if [ -n "$ck8s_stage" ]; then ck8s_say "ended with exit code $ck8s_code while $ck8s_stage"; fi
}

ck8s_run() {
    "$@" &
    ck8s_child=$!
    wait "$ck8s_child"
    ck8s_code=$?
    ck8s_child=
    return "$ck8s_code"
}

trap ck8s_stop TERM INT
trap ck8s_ended EXIT

ck8s_is_python() {
    command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 6))' >/dev/null 2>&1
}

ck8s_has_agent() {
    "$1" -c 'import clearml_agent' >/dev/null 2>&1
}

ck8s_has_pip() {
    "$1" -m pip --version >/dev/null 2>&1
}

# Debian's own Python has ensurepip for virtual environments alone; that function of theirs ends it elsewhere.
ck8s_ensures_pip() {
    "$1" -c 'import ensurepip; ensurepip.version(); getattr(ensurepip, "_ensurepip_is_disabled_in_debian_for_system", int)()' >/dev/null 2>&1
}

ck8s_makes_environments() {
    "$1" -c 'import virtualenv' >/dev/null 2>&1 || "$1" -c 'import venv, ensurepip; ensurepip.version()' >/dev/null 2>&1
}

# Sets $ck8s_python: LOCAL_PYTHON if given; else the first one with the agent, else the first one with pip, else the first.
ck8s_find_python() {
    ck8s_python=
    if [ -n "${LOCAL_PYTHON:-}" ]; then
        ck8s_is_python "$LOCAL_PYTHON" || ck8s_fail 78 "LOCAL_PYTHON names $LOCAL_PYTHON, which is no Python 3.6 or newer in this image"
        ck8s_python=$LOCAL_PYTHON
        return 0
    fi
    ck8s_first=
    ck8s_with_pip=
    for ck8s_name in python3 3.20 3.19 3.18 3.17 3.16 3.15 3.14 3.13 3.12 3.11 3.10 3.9 3.8 3.7 3.6 python; do
        case $ck8s_name in 3.*) ck8s_name=python$ck8s_name ;; esac
        ck8s_is_python "$ck8s_name" || continue
        if ck8s_has_agent "$ck8s_name"; then
            ck8s_python=$ck8s_name
            return 0
        fi
        ck8s_first=${ck8s_first:-$ck8s_name}
        if [ -z "$ck8s_with_pip" ] && ck8s_has_pip "$ck8s_name"; then ck8s_with_pip=$ck8s_name; fi
    done
    ck8s_python=${ck8s_with_pip:-$ck8s_first}
    [ -n "$ck8s_python" ]
}

# By writing: for root, busybox's own test says yes of a file system that is read-only.
ck8s_takes_files() {
    [ -d "$1" ] || return 1
    ck8s_file=$("$ck8s_bundle/git/tools/mktemp" "${1%/}/.clearml-k8s-XXXXXX" 2>/dev/null) || return 1
    "$ck8s_bundle/git/tools/rm" -f "$ck8s_file"
}

# For scripts of others, too: what the image lacks comes behind what it has, and a user without a home gets one.
ck8s_use_bundle() {
    [ -n "$ck8s_bundle" ] || return 0
    ck8s_stage="looking at what bootstrap has brought"
    PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}
    command -v git >/dev/null 2>&1 || PATH="$PATH:$ck8s_bundle/git/bin"
    [ -n "${LOCAL_PYTHON:-}" ] || ck8s_find_python || PATH="$PATH:$ck8s_bundle/python/bin"
    ck8s_takes_files "${HOME:-}" || HOME="$ck8s_bundle-work/home"
    ck8s_takes_files "${TMPDIR:-/tmp}" || export TMPDIR="$ck8s_bundle-work/tmp"
    export PATH HOME
    if [ -z "${SSL_CERT_FILE:-}" ]; then
        for ck8s_file in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem "$ck8s_bundle/ca-certificates.crt"; do
            if [ -r "$ck8s_file" ]; then
                export SSL_CERT_FILE="$ck8s_file"
                break
            fi
        done
    fi
}

# Sets $ck8s_python, of which the task's environment is made, and $ck8s_runner, which runs the agent. The image is the
# environment that the user chose: its Python is the task's, wherever the agent comes from.
ck8s_choose_python() {
    if [ -z "$ck8s_bundle" ]; then
        ck8s_find_python || return 1
        ck8s_runner=$ck8s_python
        return 0
    fi
    ck8s_lent="$ck8s_bundle/python/bin"
    ck8s_path=$PATH
    PATH=${PATH%":$ck8s_lent"}
    if ! ck8s_find_python; then
        PATH=$ck8s_path
        ck8s_python="$ck8s_lent/python3"
    fi
    if ck8s_has_agent "$ck8s_python"; then
        ck8s_runner=$ck8s_python
        return 0
    fi
    ck8s_runner="$ck8s_bundle/agent/bin/python"
    ck8s_has_agent "$ck8s_runner" || ck8s_fail 78 "the clearml-agent that bootstrap has brought does not start in this image: see whether it sets PYTHONHOME or LD_PRELOAD, or use an image that has clearml-agent"
    case $ck8s_python in
        */*) PATH="$PATH:${ck8s_python%/*}" ;;
        *) ck8s_python=$(command -v "$ck8s_python") ;;
    esac
    if ! ck8s_makes_environments "$ck8s_python"; then
        ck8s_python=$("$ck8s_runner" -I "$ck8s_bundle/lend.py" "$ck8s_bundle-work/bin" "$ck8s_python" "$ck8s_runner") || ck8s_fail 78 "no virtual environment can be made of the image's Python: use an image with venv and ensurepip, or with virtualenv"
        PATH="$ck8s_bundle-work/bin:$PATH"
    fi
    # The agent asks for a pip of its own choice: these versions are there as files.
    read -r ck8s_pips <"$ck8s_bundle/wheels/pip-versions"
    export CLEARML_AGENT__AGENT__PYTHON_BINARY="${CLEARML_AGENT__AGENT__PYTHON_BINARY:-$ck8s_python}"
    export CLEARML_AGENT__AGENT__PACKAGE_MANAGER__PIP_VERSION="${CLEARML_AGENT__AGENT__PACKAGE_MANAGER__PIP_VERSION:-$ck8s_pips}"
}

# Git and Python from the image's own package manager, as ClearML's glue does it; only what is missing, only as root.
ck8s_install_system_packages() {
    [ -z "$ck8s_bundle" ] || return 0
    ck8s_packages=
    if [ -n "${CLEARML_K8S_NEEDS_GIT:-}" ] && ! command -v git >/dev/null 2>&1; then ck8s_packages=git; fi
    if [ -n "${LOCAL_PYTHON:-}" ]; then
        : # the setup script may bring it
    elif ! ck8s_find_python; then
        ck8s_packages="git python3 python3-pip"
    elif ! ck8s_has_agent "$ck8s_python" && ! ck8s_has_pip "$ck8s_python" && ! ck8s_ensures_pip "$ck8s_python"; then
        ck8s_packages="${ck8s_packages:+$ck8s_packages }python3-pip"
    fi
    [ -n "$ck8s_packages" ] && [ -z "${CLEARML_AGENT_SKIP_CONTAINER_APT:-}" ] && [ "$(id -u)" = 0 ] || return 0
    ck8s_stage="installing $ck8s_packages"
    # shellcheck disable=SC2086 # a list of words
    if command -v apt-get >/dev/null 2>&1; then
        ck8s_say "installing $ck8s_packages with apt-get (CLEARML_AGENT_SKIP_CONTAINER_APT=1 skips this)"
        ck8s_run env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=0 -o Acquire::http::Timeout=20 update &&
            ck8s_run env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $ck8s_packages ||
            ck8s_say "apt-get could not install $ck8s_packages"
    elif command -v dnf >/dev/null 2>&1; then
        ck8s_say "installing $ck8s_packages with dnf (CLEARML_AGENT_SKIP_CONTAINER_APT=1 skips this)"
        ck8s_run dnf -q install -y $ck8s_packages || ck8s_say "dnf could not install $ck8s_packages"
    elif command -v microdnf >/dev/null 2>&1; then
        ck8s_say "installing $ck8s_packages with microdnf (CLEARML_AGENT_SKIP_CONTAINER_APT=1 skips this)"
        ck8s_run microdnf install -y $ck8s_packages || ck8s_say "microdnf could not install $ck8s_packages"
    fi
}

# The task's setup script runs in this shell, so that what it exports reaches the task.
ck8s_run_setup_script() {
    ck8s_setup=${CLEARML_K8S_SETUP_SCRIPT:-}
    unset CLEARML_K8S_SETUP_SCRIPT
    [ -n "$ck8s_setup" ] || return 0
    ck8s_stage="running the task's setup script"
    ck8s_say "running the task's setup script"
    eval "$ck8s_setup"
}

# In this shell, too.
ck8s_run_preparation() {
    [ -n "$ck8s_preparation" ] || return 0
    ck8s_stage="running agentk8sglue.customBashScript"
    ck8s_say "$ck8s_stage"
    eval "$ck8s_preparation"
}

ck8s_names_extra() {
    [ -n "${CLEARML_CONFIG_FILE:-}" ] && [ -r "$CLEARML_CONFIG_FILE" ] || return 1
    while IFS= read -r ck8s_line || [ -n "$ck8s_line" ]; do
        case ${ck8s_line%%#*} in *extra_docker_shell_script*) return 0 ;; esac
    done <"$CLEARML_CONFIG_FILE"
    return 1
}

# What agent.extra_docker_shell_script of the mounted clearml.conf says, into $ck8s_extra. It is read here and not by the
# controller, as a Job must not hold a text of a Secret; by clearml-agent, as nothing else in the image knows the format.
ck8s_read_extra() {
    ck8s_extra=
    ck8s_names_extra || return 0
    ck8s_stage="reading agent.extra_docker_shell_script of clearml.conf"
    ck8s_find_python || ck8s_fail 78 "the image has no Python 3.6 or newer, by which clearml-agent reads agent.extra_docker_shell_script of clearml.conf: use an image with Python, or write the script into agentk8sglue.customBashScript"
    ck8s_reader=$ck8s_python
    if ! ck8s_has_agent "$ck8s_reader"; then
        if [ -n "$ck8s_bundle" ]; then ck8s_reader="$ck8s_bundle/agent/bin/python"; else ck8s_install_agent; fi
    fi
    ck8s_extra=$("$ck8s_reader" -c '
import os
try:
    from clearml_agent.external.pyhocon import ConfigFactory
except ImportError:
    from pyhocon import ConfigFactory
found = ConfigFactory.parse_file(os.environ["CLEARML_CONFIG_FILE"]).get("agent.extra_docker_shell_script", None) or []
print("\n".join([found] if isinstance(found, str) else [str(line) for line in found]))
' 2>/dev/null) || ck8s_fail 78 "agent.extra_docker_shell_script cannot be read: clearml.conf is no valid HOCON, or names what this pod does not have"
}

ck8s_run_extra() {
    ck8s_read_extra
    [ -n "$ck8s_extra" ] || return 0
    ck8s_stage="running agent.extra_docker_shell_script of clearml.conf"
    ck8s_say "$ck8s_stage"
    eval "$ck8s_extra"
}

# Not by `exec`: a script that is process 1 gets no signal by default. All that it started is told to end with it.
ck8s_run_own() {
    ck8s_stage="running agentk8sglue.containerCustomBashScript"
    ck8s_say "$ck8s_stage"
    ck8s_shell=/bin/sh
    if command -v bash >/dev/null 2>&1; then ck8s_shell=bash; fi
    export LOCAL_PYTHON="$ck8s_runner"
    if command -v setsid >/dev/null 2>&1; then
        setsid "$ck8s_shell" -c "$ck8s_own" &
        ck8s_child=$!
        trap 'kill -s "$ck8s_signal" -- "-$ck8s_child" 2>/dev/null' TERM INT
    else
        "$ck8s_shell" -c "$ck8s_own" &
        ck8s_child=$!
        trap 'kill -s "$ck8s_signal" "$ck8s_child" 2>/dev/null' TERM INT
    fi
    ck8s_code=0
    while :; do
        wait "$ck8s_child"
        ck8s_code=$?
        kill -0 "$ck8s_child" 2>/dev/null || break
    done
    ck8s_stage=
    exit "$ck8s_code"
}

ck8s_check_task() {
    if [ -n "$ck8s_gather" ]; then
        ck8s_stage="waiting for the other pods of the task"
        ck8s_run "$ck8s_runner" -I -c "$ck8s_gather" "$ck8s_check"
    else
        ck8s_stage="checking the task's status"
        ck8s_run "$ck8s_runner" -I -c "$ck8s_check"
    fi
    case $? in
        0)
            if [ -n "$ck8s_gather" ] && [ "${NODE_RANK:-0}" != 0 ]; then
                ck8s_signal=KILL
                export CLEARML_WORKER_ID="$CLEARML_WORKER_ID:rank$NODE_RANK"
            fi
            ;;
        10)
            ck8s_stage=
            exit 0
            ;;
        *) ck8s_fail 75 "the ClearML server could not tell whether this pod is still to run it (see the log above)" ;;
    esac
}

ck8s_install_agent() {
    ck8s_requirement="clearml-agent${CLEARML_AGENT_UPDATE_VERSION:-==@AGENT_VERSION@}"
    ck8s_missing="clearml-agent is not installed for $ck8s_python"
    if [ -n "${CLEARML_AGENT_NO_UPDATE:-}" ]; then
        ck8s_fail 78 "$ck8s_missing, and CLEARML_AGENT_NO_UPDATE forbids to install it: use an image that has clearml-agent"
    fi
    if ! ck8s_has_pip "$ck8s_python"; then
        ck8s_run "$ck8s_python" -m ensurepip >/dev/null 2>&1 || ck8s_fail 78 "$ck8s_missing, and it has no pip to install it: use an image with pip or with clearml-agent"
    fi
    ck8s_stage="installing clearml-agent"
    ck8s_say "installing $ck8s_requirement with pip"
    if ! ck8s_run env PIP_BREAK_SYSTEM_PACKAGES=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore "$ck8s_python" -m pip install "$ck8s_requirement"; then
        ck8s_fail 78 "$ck8s_missing, and pip could not install $ck8s_requirement (see above): if the package index is not reachable from the pod, set PIP_INDEX_URL in the pod template's env or use an image that has clearml-agent"
    fi
    ck8s_has_agent "$ck8s_python" || ck8s_fail 78 "pip has installed $ck8s_requirement, but $ck8s_python cannot import it"
}

ck8s_use_bundle
if [ -n "$ck8s_own" ]; then
    ck8s_stage="looking for Python"
    ck8s_choose_python || ck8s_fail 78 "the image has no Python 3.6 or newer to ask the ClearML server whether the task is still to run, before agentk8sglue.containerCustomBashScript runs: use an image with Python, or set LOCAL_PYTHON in the pod template's env to where it is"
    ck8s_check_task
    # For {extra_docker_bash_script}, whose shell does not have our functions.
    case $ck8s_own in
        *CLEARML_K8S_EXTRA_SCRIPT*)
            ck8s_read_extra
            if [ -n "$ck8s_extra" ]; then export CLEARML_K8S_EXTRA_SCRIPT="$ck8s_extra"; fi
            ;;
    esac
    ck8s_run_own
fi

ck8s_install_system_packages
# Options that these scripts set are theirs alone; a `return` in one ends its function, so not there.
ck8s_run_preparation
set +eux
ck8s_run_extra
set +eux
ck8s_run_setup_script
set +eux

ck8s_stage="looking for Python"
ck8s_choose_python || ck8s_fail 78 "the image has no Python 3.6 or newer (looked for python3, python3.20 to python3.6, python): use an image with Python, set LOCAL_PYTHON in the pod template's env to where it is, or bootstrap.enabled in the chart's values"
ck8s_has_agent "$ck8s_runner" || ck8s_install_agent

ck8s_check_task

ck8s_run_rank() {
    ck8s_stage="running rank $NODE_RANK"
    trap 'ck8s_stage=; kill -s KILL "$ck8s_child" 2>/dev/null; exit 143' TERM INT
    ck8s_run "$ck8s_runner" -m clearml_agent execute @AGENT_ARGUMENTS@ --id "$CLEARML_K8S_TASK_ID"
    ck8s_code=$?
    ck8s_stage=
    exit "$ck8s_code"
}

ck8s_say "starting clearml-agent"
if [ "$ck8s_signal" = KILL ]; then ck8s_run_rank; fi
exec "$ck8s_runner" -m clearml_agent execute @AGENT_ARGUMENTS@ --id "$CLEARML_K8S_TASK_ID"
