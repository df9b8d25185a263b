# Start of a task's pod: POSIX sh, run by bash where the image has it. $1 is the text of start_check.py.txt, $2 and $3
# are the administrator's: a script that runs first, and one that takes the place of what follows the check.
# Constant text: everything about the task comes from the environment, and nothing of the environment is printed.
# Exit codes: 0 the task is not this pod's to run (any more), 75 the server could not be asked, 78 the image lacks
# something, 143 told to stop before the task was started. From `exec` on, the agent's own.

check=$1
preparation=${2:-}
own=${3:-}
child=
stage="starting"

say() {
    printf 'clearml-k8s: %s\n' "$*"
}

fail() {
    code=$1
    shift
    stage=
    say "the task cannot be started: $*"
    # What stands here becomes the container's termination message, which the controller tells the user.
    if [ -w /dev/termination-log ]; then printf '%s\n' "$*" >/dev/termination-log; fi
    exit "$code"
}

# As process 1 the shell gets no default signal action, and `wait`, unlike a foreground command, is interrupted at once.
stop() {
    stage=
    if [ -n "$child" ]; then kill -TERM "$child" 2>/dev/null; fi
    say "told to stop before the task was started"
    exit 143
}

ended() {
    code=$?
    if [ -n "$stage" ]; then say "ended with exit code $code while $stage"; fi
}

run() {
    "$@" &
    child=$!
    wait "$child"
    code=$?
    child=
    return "$code"
}

trap stop TERM INT
trap ended EXIT

is_python() {
    command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 6))' >/dev/null 2>&1
}

has_agent() {
    "$1" -c 'import clearml_agent' >/dev/null 2>&1
}

has_pip() {
    "$1" -m pip --version >/dev/null 2>&1
}

# Sets $python: LOCAL_PYTHON if given; else the first one with the agent, else the first one with pip, else the first.
find_python() {
    python=
    if [ -n "${LOCAL_PYTHON:-}" ]; then
        is_python "$LOCAL_PYTHON" || fail 78 "LOCAL_PYTHON names $LOCAL_PYTHON, which is no Python 3.6 or newer in this image"
        python=$LOCAL_PYTHON
        return 0
    fi
    first=
    with_pip=
    for name in python3 3.20 3.19 3.18 3.17 3.16 3.15 3.14 3.13 3.12 3.11 3.10 3.9 3.8 3.7 3.6 python; do
        case $name in 3.*) name=python$name ;; esac
        is_python "$name" || continue
        if has_agent "$name"; then
            python=$name
            return 0
        fi
        first=${first:-$name}
        if [ -z "$with_pip" ] && has_pip "$name"; then with_pip=$name; fi
    done
    python=${with_pip:-$first}
    [ -n "$python" ]
}

# Git and Python from the image's own package manager, as ClearML's glue does it; only what is missing, only as root.
install_system_packages() {
    packages=
    if [ -n "${CLEARML_K8S_NEEDS_GIT:-}" ] && ! command -v git >/dev/null 2>&1; then packages=git; fi
    find_python || packages="git python3 python3-pip"
    [ -n "$packages" ] && [ -z "${CLEARML_AGENT_SKIP_CONTAINER_APT:-}" ] && [ "$(id -u)" = 0 ] || return 0
    stage="installing $packages"
    # shellcheck disable=SC2086 # a list of words
    if command -v apt-get >/dev/null 2>&1; then
        say "installing $packages with apt-get (CLEARML_AGENT_SKIP_CONTAINER_APT=1 skips this)"
        run env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=0 -o Acquire::http::Timeout=20 update &&
            run env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $packages ||
            say "apt-get could not install $packages"
    elif command -v dnf >/dev/null 2>&1; then
        say "installing $packages with dnf (CLEARML_AGENT_SKIP_CONTAINER_APT=1 skips this)"
        run dnf -q install -y $packages || say "dnf could not install $packages"
    elif command -v microdnf >/dev/null 2>&1; then
        say "installing $packages with microdnf (CLEARML_AGENT_SKIP_CONTAINER_APT=1 skips this)"
        run microdnf install -y $packages || say "microdnf could not install $packages"
    fi
}

# The task's setup script runs in this shell, so that what it exports reaches the task.
run_setup_script() {
    setup=${CLEARML_K8S_SETUP_SCRIPT:-}
    unset CLEARML_K8S_SETUP_SCRIPT
    [ -n "$setup" ] || return 0
    stage="running the task's setup script"
    say "running the task's setup script"
    eval "$setup"
    set +eux
}

# In this shell, too.
run_preparation() {
    [ -n "$preparation" ] || return 0
    stage="running agentk8sglue.customBashScript"
    say "$stage"
    eval "$preparation"
    set +eux
}

# Not by `exec`: a script that is process 1 gets no signal by default. All that it started is told to end with it.
run_own() {
    stage="running agentk8sglue.containerCustomBashScript"
    say "$stage"
    shell=/bin/sh
    if command -v bash >/dev/null 2>&1; then shell=bash; fi
    export LOCAL_PYTHON="$python"
    if command -v setsid >/dev/null 2>&1; then
        setsid "$shell" -c "$own" &
        child=$!
        trap 'kill -s TERM -- "-$child" 2>/dev/null' TERM INT
    else
        "$shell" -c "$own" &
        child=$!
        trap 'kill -s TERM "$child" 2>/dev/null' TERM INT
    fi
    code=0
    while :; do
        wait "$child"
        code=$?
        kill -0 "$child" 2>/dev/null || break
    done
    stage=
    exit "$code"
}

check_task() {
    stage="checking the task's status"
    run "$python" -I -c "$check"
    case $? in
        0) ;;
        10)
            stage=
            exit 0
            ;;
        *) fail 75 "the ClearML server could not tell whether this pod is still to run it (see the log above)" ;;
    esac
}

install_agent() {
    requirement="clearml-agent${CLEARML_AGENT_UPDATE_VERSION:-==@AGENT_VERSION@}"
    missing="clearml-agent is not installed for $python"
    if [ -n "${CLEARML_AGENT_NO_UPDATE:-}" ]; then
        fail 78 "$missing, and CLEARML_AGENT_NO_UPDATE forbids to install it: use an image that has clearml-agent"
    fi
    if ! has_pip "$python"; then
        run "$python" -m ensurepip >/dev/null 2>&1 || fail 78 "$missing, and it has no pip to install it: use an image with pip or with clearml-agent"
    fi
    stage="installing clearml-agent"
    say "installing $requirement with pip"
    if ! run env PIP_BREAK_SYSTEM_PACKAGES=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore "$python" -m pip install "$requirement"; then
        fail 78 "$missing, and pip could not install $requirement (see above): if the package index is not reachable from the pod, set PIP_INDEX_URL in the pod template's env or use an image that has clearml-agent"
    fi
    has_agent "$python" || fail 78 "pip has installed $requirement, but $python cannot import it"
}

if [ -n "$own" ]; then
    stage="looking for Python"
    find_python || fail 78 "the image has no Python 3.6 or newer to ask the ClearML server whether the task is still to run, before agentk8sglue.containerCustomBashScript runs: use an image with Python, or set LOCAL_PYTHON in the pod template's env to where it is"
    check_task
    run_own
fi

install_system_packages
run_preparation
run_setup_script

stage="looking for Python"
find_python || fail 78 "the image has no Python 3.6 or newer (looked for python3, python3.20 to python3.6, python): use an image with Python, or set LOCAL_PYTHON in the pod template's env to where it is"
has_agent "$python" || install_agent

check_task

say "starting clearml-agent"
exec "$python" -m clearml_agent execute @AGENT_ARGUMENTS@ --id "$CLEARML_K8S_TASK_ID"
