"""What a task asks for in docker arguments, within the queue's policy: each rule alone, on the Job that is built."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from clearml_k8s import errors
from clearml_k8s.config import Config, QueueConfig, QueueSettings
from clearml_k8s.config.policy import TaskPolicy, read
from clearml_k8s.spec.environment import RESERVED_ENV
from clearml_k8s.spec.mounts import bytes_quantity, docker_size
from hypothesis import given
from hypothesis import strategies as st
from spec_support import Build

SAFE = TaskPolicy()
OPEN = TaskPolicy(
    shared_memory="1Gi",
    host_ipc=True,
    host_network=True,
    host_paths=("/mnt/data", "/scratch/"),
    volume_claims=("datasets",),
    privileged=True,
    capabilities=("SYS_PTRACE", "NET_ADMIN"),
    user="any",
    labels=("team", "example.com/*"),
)


@dataclasses.dataclass(frozen=True)
class Pod:
    """The pod that was built, and what its user is told."""

    spec: dict[str, Any]
    labels: dict[str, str]
    told: list[str]

    @property
    def container(self) -> dict[str, Any]:
        return dict(self.spec["containers"][0])

    @property
    def mounts(self) -> dict[str, dict[str, Any]]:
        """By path in the container: the volume, with the mount's own settings."""
        volumes = {volume["name"]: volume for volume in self.spec.get("volumes", [])}
        return {
            mount["mountPath"]: {
                **{key: value for key, value in volumes[mount["name"]].items() if key != "name"},
                **{key: value for key, value in mount.items() if key not in ("name", "mountPath")},
            }
            for mount in self.container.get("volumeMounts", [])
        }

    @property
    def security(self) -> dict[str, Any]:
        return dict(self.container.get("securityContext", {}))


Ask = Callable[..., Pod]


@pytest.fixture
def ask(build: Build, config: Config) -> Ask:
    """The pod of a task with these arguments; ``own``: the queue's own policy."""

    def asked(
        arguments: str,
        *,
        policy: TaskPolicy = SAFE,
        own: TaskPolicy | None = None,
        base: dict[str, Any] | None = None,
        image: str = "",
    ) -> Pod:
        job = build(
            config=dataclasses.replace(config, task_policy=policy, base_pod_template=base or {}),
            queue=QueueConfig(name="default", settings=QueueSettings(task_policy=own)),
            arguments=arguments,
            image=image,
        )
        template = job.manifest["spec"]["template"]
        assert {one.source for one in job.ignored} <= {"task"}
        return Pod(template["spec"], template["metadata"]["labels"], [str(one) for one in job.ignored])

    return asked


def env_of(pod: Pod) -> dict[str, str]:
    given = {entry["name"]: entry.get("value") for entry in pod.container["env"]}
    return {name: value for name, value in given.items() if len(name) == 1 and value is not None}


# ---- environment ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    ["-e A=B", "-eA=B", "-e=A=B", "--env A=B", "--env=A=B", "-ite A=B", "-iteA=B", "'-e' 'A=B'", '--env="A=B"'],
)
def test_every_spelling_of_env(ask: Ask, arguments: str) -> None:
    assert env_of(ask(arguments)) == {"A": "B"}


def test_values_keep_blanks_quotes_and_equal_signs(ask: Ask) -> None:
    pod = ask("""-e A='x y=z "q"' -e B= --env=C=a=b""")
    assert (env_of(pod), pod.told) == ({"A": 'x y=z "q"', "B": "", "C": "a=b"}, [])


def test_the_last_value_of_a_name_wins(ask: Ask) -> None:
    assert env_of(ask("-e A=1 -e B=2 -e A=3")) == {"B": "2", "A": "3"}
    assert env_of(ask("-e A=own", image="python -e A=old -e B=old")) == {"A": "own", "B": "old"}


def test_reserved_names_are_refused_without_showing_the_value(ask: Ask) -> None:
    assert ask("-e CLEARML_API_SECRET_KEY=s3cret -e A=1").told == [
        "-e CLEARML_API_SECRET_KEY: ignored; set by the controller"
    ]


def test_a_value_that_lost_its_name_is_not_shown(ask: Ask) -> None:
    text = "\n".join(ask("-e hunter2 hunter3 -e PASSWORD -e").told)
    assert "hunter" not in text
    assert "-e PASSWORD: ignored; no value is given" in text


def test_names_that_kubernetes_refuses_are_told(ask: Ask) -> None:
    told = ask("-e 1A=x -e 'A B=x' -e ..=x").told
    assert [text.partition(":")[0] for text in told] == ["-e (not a name)", "-e (not a name)", "-e .."]


def test_unmatched_quotes_are_an_error_that_names_the_setting(ask: Ask) -> None:
    with pytest.raises(errors.SpecError, match="container arguments: quotes do not match"):
        ask("-e A='x")


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z_][A-Z0-9_]{0,5}", fullmatch=True), st.text(alphabet="ab '\"\\=-\n"), max_size=4
    )
)
def test_what_a_client_quotes_comes_back(env: dict[str, str]) -> None:
    from clearml_k8s.spec.asks import lay_over
    from clearml_k8s.spec.container import docker_words
    from clearml_k8s.spec.template import PodParts

    parts = PodParts(labels={}, annotations={}, spec={}, container={}, sidecars=[], ignored=())
    words = docker_words(" ".join(f"-e {shlex.quote(f'{name}={value}')}" for name, value in env.items()))
    asked = lay_over(parts, words, policy=SAFE, reserved_env=RESERVED_ENV, reserved_paths=())
    assert (dict(asked.env), asked.ignored) == (env, ())


# ---- what is left out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--gpus '\"device=0,1\"'", "--gpus: ignored; set resources.limits (nvidia.com/gpu) in the queue's template"),
        ("--rm", "--rm: ignored; finished pods are removed by the controller"),
        ("--ulimit memlock=-1", "--ulimit: ignored; Kubernetes has no such setting; it is the node's"),
        (
            "--cpuset-cpus 0-3",
            "--cpuset-cpus: ignored; it has no counterpart in a pod; ask the cluster's administrator",
        ),
        ("stray", "docker argument 1: ignored; it belongs to no option; put values with spaces in quotes"),
        ("-v", "-v: ignored; its value is missing"),
        ("--shm-size", "--shm-size: ignored; its value is missing"),
        (
            "--entrypoint bash",
            "--entrypoint: ignored; what a pod starts is its queue's to say; use the task's setup script",
        ),
        ("--network my-net", "--network: ignored; pods have the cluster's network; set dnsPolicy or hostAliases"),
    ],
)
def test_what_has_no_counterpart_is_told_and_fails_nothing(ask: Ask, arguments: str, told: str) -> None:
    pod = ask(f"{arguments} -e A=B")
    if arguments != "-v" and arguments != "--shm-size":
        assert env_of(pod) == {"A": "B"}
        (text,) = pod.told
        assert text.startswith(told)
    else:
        (text,) = ask(arguments).told
        assert text == told


@pytest.mark.parametrize(
    "arguments", ["--entrypoint ''", "--network bridge", "--net=default", "--privileged=false", "--ipc=private"]
)
def test_what_is_so_already_is_not_told(ask: Ask, arguments: str) -> None:
    assert ask(arguments) == ask("")


FORBIDDEN = [
    ("--ipc=host", "taskPolicy.hostIPC"),
    ("--network host", "taskPolicy.hostNetwork"),
    ("--net=host", "taskPolicy.hostNetwork"),
    ("-v /etc:/data", "taskPolicy.hostPaths"),
    ("--mount type=bind,source=/etc,target=/data", "taskPolicy.hostPaths"),
    ("-v datasets:/data", "taskPolicy.volumeClaims"),
    ("--mount source=datasets,target=/data", "taskPolicy.volumeClaims"),
    ("--privileged", "taskPolicy.privileged"),
    ("--cap-add SYS_PTRACE", "taskPolicy.capabilities"),
    ("--user 1000", "taskPolicy.user"),
    ("--user root", "write the user as a number"),
    ("--label team=a", "taskPolicy.labels"),
]


@pytest.mark.parametrize(("arguments", "key"), FORBIDDEN)
def test_by_default_nothing_reaches_beyond_the_pod(ask: Ask, arguments: str, key: str) -> None:
    pod = ask(arguments)
    (text,) = pod.told
    assert key in text
    plain = ask("")
    assert pod.security == plain.security == {}
    assert pod.labels == plain.labels
    assert not {"hostIPC", "hostNetwork", "hostPID"} & pod.spec.keys()
    assert not any({"hostPath", "persistentVolumeClaim"} & volume.keys() for volume in pod.spec.get("volumes", []))


# ---- shared memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [
        ("--shm-size 8g", "8Gi"),
        ("--shm-size=8G", "8Gi"),
        ("--shm-size 512mb", "512Mi"),
        ("--shm-size 1000", "1000"),
        ("--shm-size 1.5g", "1536Mi"),
        ("--shm-size 1g --shm-size 2g", "2Gi"),
        ("--ipc=host --shm-size 2g", "2Gi"),
    ],
)
def test_shared_memory_is_a_volume_of_that_size(ask: Ask, arguments: str, limit: str) -> None:
    assert ask(arguments).mounts == {"/dev/shm": {"emptyDir": {"medium": "Memory", "sizeLimit": limit}}}


def test_more_than_is_allowed_is_cut_and_told(ask: Ask) -> None:
    pod = ask("--shm-size 8g", policy=OPEN)
    assert pod.mounts["/dev/shm"]["emptyDir"]["sizeLimit"] == "1Gi"
    assert pod.told == ["folders in memory: changed; 1Gi are the most that is allowed (taskPolicy.sharedMemory)"]
    assert ask("--tmpfs /t", policy=OPEN).mounts["/t"]["emptyDir"]["sizeLimit"] == "1Gi"


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [
        ("--shm-size 300m --tmpfs /t:size=200m", "500Mi"),
        ("--shm-size 800m --tmpfs /t:size=800m", "1Gi"),
        ("--shm-size 300m --tmpfs /t", "1Gi"),
        ("--tmpfs /t --tmpfs /u:size=1m", "1Gi"),
    ],
)
def test_folders_in_memory_share_one_volume_and_its_limit(ask: Ask, arguments: str, limit: str) -> None:
    pod = ask(arguments, policy=dataclasses.replace(OPEN, host_ipc=False))
    (volume,) = pod.spec["volumes"]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": limit}
    assert sorted(mount["subPath"] for mount in pod.container["volumeMounts"]) == ["1", "2"]
    assert bool(pod.told) is ("800m" in arguments)


@pytest.mark.parametrize("size", ["0", "0g", "0.1b"])
def test_a_size_of_nothing_is_no_way_around_the_limit(ask: Ask, size: str) -> None:
    mounted = {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
    assert ask(f"--shm-size {size}", policy=OPEN).mounts == {"/dev/shm": mounted}
    assert ask(f"--tmpfs /t:size={size}", policy=OPEN).mounts == {"/t": mounted}


def test_none_is_allowed(ask: Ask) -> None:
    none = TaskPolicy(shared_memory="0")
    pod = ask("--shm-size 1g --tmpfs /t --ipc=host", policy=none)
    assert pod.mounts == {}
    assert ["taskPolicy.sharedMemory" in text for text in pod.told] == [True, True, False]


@pytest.mark.parametrize("size", ["", "8x", "-1", "1e9", "much"])
def test_a_size_that_is_none(ask: Ask, size: str) -> None:
    pod = ask(f"--shm-size '{size}'")
    assert (pod.mounts, len(pod.told)) == ({}, 1)


def test_the_nodes_ipc_where_it_is_allowed_and_an_own_one_where_not(ask: Ask) -> None:
    pod = ask("--ipc=host", policy=OPEN)
    assert (pod.spec["hostIPC"], pod.mounts, pod.told) == (True, {}, [])
    pod = ask("--ipc=host")
    assert pod.mounts == {"/dev/shm": {"emptyDir": {"medium": "Memory"}}}
    assert pod.told == [
        "--ipc: ignored; the node's IPC is not for tasks of this queue (taskPolicy.hostIPC); "
        "the pod has a /dev/shm of its own"
    ]


def test_what_the_template_mounts_stays(ask: Ask) -> None:
    base = {
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}}],
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm/"}],
    }
    pod = ask("--shm-size 8g --tmpfs /dev/shm", base=base)
    assert pod.mounts == {"/dev/shm/": {"emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}}}
    assert all("something is mounted there already" in text for text in pod.told)
    assert len(pod.told) == 2


# ---- mounts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "path", "mount"),
    [
        ("-v /mnt/data:/data", "/data", {"hostPath": {"path": "/mnt/data"}}),
        ("-v /mnt/data/a/:/data/", "/data", {"hostPath": {"path": "/mnt/data"}, "subPath": "a"}),
        (
            "--volume=/scratch/x/./y/:/x:ro",
            "/x",
            {"hostPath": {"path": "/scratch"}, "subPath": "x/y", "readOnly": True},
        ),
        ("-v /mnt/data:/data:z,ro", "/data", {"hostPath": {"path": "/mnt/data"}, "readOnly": True}),
        ("-v datasets:/data", "/data", {"persistentVolumeClaim": {"claimName": "datasets"}}),
        ("-v /data", "/data", {"emptyDir": {}}),
        (
            "--mount type=bind,src=/mnt/data,dst=/data,readonly",
            "/data",
            {"hostPath": {"path": "/mnt/data"}, "readOnly": True},
        ),
        (
            "--mount type=volume,source=datasets,target=/data,volume-subpath=a/b,ro=true",
            "/data",
            {"persistentVolumeClaim": {"claimName": "datasets"}, "readOnly": True, "subPath": "a/b"},
        ),
        ("--mount target=/data", "/data", {"emptyDir": {}}),
        ("--mount type=tmpfs,target=/t,tmpfs-size=64m", "/t", {"emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}),
        ("--tmpfs /t:rw,size=64m", "/t", {"emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}),
    ],
)
def test_mounts(ask: Ask, arguments: str, path: str, mount: dict[str, Any]) -> None:
    pod = ask(arguments, policy=OPEN)
    assert (pod.mounts, pod.told) == ({path: mount}, [])


@pytest.mark.parametrize(
    "arguments",
    [
        "-v /mnt/database:/data",
        "-v /mnt/data/../../etc:/data",
        "-v /mnt:/data",
        "-v //etc:/data",
        "-v ./a:/data",
        "-v ~/a:/data",
        "-v other:/data",
        "-v datasets:data",
        "-v datasets:/",
        "-v datasets:/a/..",
        "-v a:b:c:d",
        "-v datasets:",
        "--mount type=bind,source=a,target=/data",
        "--mount type=npipe,source=a,target=/data",
        "--mount type=volume,source=datasets,target=/data,volume-subpath=../a",
        "--mount type=volume,source=datasets,target=/data,volume-subpath=/a",
        "--mount source=datasets",
        "--tmpfs t",
    ],
)
def test_mounts_that_are_not_allowed_or_none(ask: Ask, arguments: str) -> None:
    pod = ask(arguments, policy=OPEN)
    assert (pod.mounts, len(pod.told)) == ({}, 1)
    assert "/etc" not in pod.told[0] and "data" not in pod.told[0].partition("(")[0].replace("database", "")


def test_folders_below_an_allowed_one() -> None:
    def folder(path: str, *allowed: str) -> tuple[str, bool] | None:
        found = TaskPolicy(host_paths=allowed).host_folder(path)
        return None if found is None else (found.name, found.read_only)

    assert folder("/etc", "/") == ("/", False)
    assert folder("/mntx", "/mnt/") is None
    assert folder("/mnt", "/mnt/") == ("/mnt", False)
    assert folder("/mnt/a", "/mnt:ro") == ("/mnt", True)
    assert folder("/mnt/a/b", "/mnt:ro", "/mnt//a", "/mnt/a/b") == ("/mnt/a", False)


def test_a_link_on_the_node_leads_nowhere(ask: Ask) -> None:
    """Of a hostPath the container runtime follows links; of a subPath the kubelet does not, out of the volume."""
    pod = ask("-v /mnt/data/a/link/../b:/b -v /mnt/data/a/b:/c -v /mnt/data:/d", policy=OPEN)
    assert len(pod.told) == 1
    assert {path: (one["hostPath"]["path"], one.get("subPath")) for path, one in pod.mounts.items()} == {
        "/c": ("/mnt/data", "a/b"),
        "/d": ("/mnt/data", None),
    }


def test_what_can_only_be_read(ask: Ask) -> None:
    policy = TaskPolicy(host_paths=("/mnt:ro",), volume_claims=("data:ro", "both", "both:ro"))
    pod = ask("-v /mnt/a:/a -v data:/b:rw -v both:/c -v data:/d:ro", policy=policy)
    assert {path: mount.get("readOnly") for path, mount in pod.mounts.items()} == {
        "/a": True,
        "/b": True,
        "/c": None,
        "/d": True,
    }
    assert pod.told == [
        "-v: changed; it can only be read (taskPolicy.hostPaths)",
        "-v: changed; it can only be read (taskPolicy.volumeClaims)",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        "-v datasets:/data:ro,rshared",
        "--tmpfs /data:size=64m,mode=1770",
        "--mount source=datasets,target=/data,volume-nocopy",
    ],
)
def test_options_of_a_mount_that_a_pod_does_not_have_are_told(ask: Ask, arguments: str) -> None:
    pod = ask(arguments, policy=OPEN)
    assert list(pod.mounts) == ["/data"]
    (text,) = pod.told
    assert ": changed; " in text and "count" in text


@pytest.mark.parametrize(
    "mount", ["type=volume,source=datasets\n,target=/data", "a\rb", "target=/data," + "x" * 200_000]
)
def test_a_mount_that_is_no_line_is_told(ask: Ask, mount: str) -> None:
    pod = ask(f"--mount {shlex.quote(mount)}", policy=OPEN)
    assert (pod.mounts, len(pod.told)) == ({}, 1)


def test_no_mount_hides_the_controllers_own(ask: Ask, config: Config, build: Build) -> None:
    from clearml_k8s.config import SecretKey

    hiding = "--tmpfs /etc/clearml/ -v /etc/clearml -v //etc//clearml/clearml.conf"
    clearml = dataclasses.replace(config.clearml, config_secret=SecretKey(name="conf", key="clearml.conf"))
    job = build(config=dataclasses.replace(config, clearml=clearml), arguments=hiding)
    mounts = [one["mountPath"] for one in job.manifest["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]]
    assert mounts == ["/etc/clearml"]
    assert len(job.ignored) == 3


WORDS = st.one_of(
    st.sampled_from(
        ["-e", "-v", "--mount", "--tmpfs", "--shm-size", "--ipc", "--user", "--add-host", "--label", "-it"]
    ),
    st.sampled_from(["A=B", "/mnt/data:/d", "datasets:/d:ro", "host", "1g", "type=tmpfs,target=/t", "0:0", "a:::1%x"]),
    st.text(max_size=30),
)


@given(st.lists(WORDS, max_size=12), st.sampled_from([SAFE, OPEN]))
def test_no_argument_makes_it_fail(words: list[str], policy: TaskPolicy) -> None:
    from clearml_k8s.spec.asks import lay_over
    from clearml_k8s.spec.template import PodParts

    parts = PodParts(labels={}, annotations={}, spec={}, container={}, sidecars=[], ignored=())
    asked = lay_over(parts, words, policy=policy, reserved_env=RESERVED_ENV, reserved_paths=("/etc/clearml",))
    mounted = {mount["name"] for mount in asked.parts.container.get("volumeMounts", [])}
    assert mounted == {volume["name"] for volume in asked.parts.spec.get("volumes", [])}


def test_a_long_list_of_what_is_left_out_is_cut(ask: Ask) -> None:
    told = ask("--rm " * 2000).told
    assert len(told) == 51
    assert told[-1] == "docker arguments: ignored; 1950 more are left out, and not told"


# ---- network, rights, the rest --------------------------------------------------------------------------------------


def test_host_aliases(ask: Ask) -> None:
    base = {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}]}
    pod = ask("--add-host db.example.com:10.0.0.2 --add-host=six=[fd00::1]", base=base)
    assert pod.spec["hostAliases"] == [
        {"ip": "10.0.0.1", "hostnames": ["a"]},
        {"ip": "10.0.0.2", "hostnames": ["db.example.com"]},
        {"ip": "fd00::1", "hostnames": ["six"]},
    ]
    wrong = ["a:host-gateway", "a", "a:b", "'a b:10.0.0.1'", "'a:fe80::1%eth0'"]
    assert len(ask(" ".join(f"--add-host {one}" for one in wrong)).told) == 5


def test_the_nodes_network(ask: Ask) -> None:
    pod = ask("--network=host", policy=OPEN)
    assert (pod.spec["hostNetwork"], pod.spec["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    assert ask("--net host", policy=OPEN, base={"dnsPolicy": "Default"}).spec["dnsPolicy"] == "Default"


def test_a_user_namespace_and_the_nodes_own_exclude_each_other(ask: Ask) -> None:
    pod = ask("--network=host --ipc=host", policy=OPEN, base={"podSpec": {"hostUsers": False}})
    assert not {"hostNetwork", "hostIPC"} & pod.spec.keys()
    assert list(pod.mounts) == ["/dev/shm"]
    assert ["user namespace" in text for text in pod.told] == [True, True]


def test_variables_that_keep_tasks_apart_are_the_templates(ask: Ask) -> None:
    mount = {"name": "home", "mountPath": "/home/me", "subPathExpr": "$(TEAM)/$(CLEARML_TASK_ID)"}
    base = {"env": [{"name": "TEAM", "value": "a"}], "volumes": [{"name": "home"}], "volumeMounts": [mount]}
    pod = ask("-e TEAM=b -e OTHER=c", base=base)
    assert {e["name"]: e.get("value") for e in pod.container["env"]}["TEAM"] == "a"
    assert pod.told == ["-e TEAM: ignored; the queue's template uses it in a subPathExpr"]


def test_privileged(ask: Ask) -> None:
    base = {"containerSecurityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}}
    assert ask("--privileged", policy=OPEN, base=base).security == {
        "privileged": True,
        "allowPrivilegeEscalation": True,
        "readOnlyRootFilesystem": True,
    }
    assert ask("--privileged", base=base).security == base["containerSecurityContext"]


def test_capabilities(ask: Ask) -> None:
    base = {"containerSecurityContext": {"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}}
    pod = ask("--cap-add=SYS_PTRACE --cap-add cap_net_admin --cap-add SYS_ADMIN", policy=OPEN, base=base)
    assert pod.security["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN", "SYS_PTRACE", "NET_ADMIN"]}
    assert len(pod.told) == 1
    every = TaskPolicy(capabilities=("ALL",))
    pod = ask("--cap-add SYS_ADMIN --cap-add FOO_BAR", policy=every)
    assert pod.security == {"capabilities": {"add": ["SYS_ADMIN"]}}
    assert pod.told == ["--cap-add: ignored; Linux has no such capability"]


@pytest.mark.parametrize(
    ("arguments", "user", "context"),
    [
        ("--user 1000", "nonRoot", {"runAsUser": 1000}),
        ("-u 1000:100", "nonRoot", {"runAsUser": 1000, "runAsGroup": 100}),
        ("-u0", "any", {"runAsUser": 0}),
        ("-u 0", "nonRoot", {}),
        ("-u 1000:0", "nonRoot", {}),
        ("-u 1000:0", "any", {"runAsUser": 1000, "runAsGroup": 0}),
        ("-u 1000:x", "any", {}),
        ("-u 99999999999", "any", {}),
        ("-u -1", "any", {}),
    ],
)
def test_users(ask: Ask, arguments: str, user: Any, context: dict[str, int]) -> None:
    pod = ask(arguments, policy=TaskPolicy(user=user))
    assert pod.security == context
    assert bool(pod.told) is not bool(context)


@pytest.mark.parametrize("key", ["podSecurityContext", "containerSecurityContext"])
def test_a_template_that_forbids_root_says_the_last_word(ask: Ask, key: str) -> None:
    base = {key: {"runAsNonRoot": True}}
    assert "runAsUser" not in ask("-u 0", policy=OPEN, base=base).security
    assert ask("-u 5", policy=OPEN, base=base).security["runAsUser"] == 5


def test_the_working_folder(ask: Ask) -> None:
    assert ask("-w /a/../b/").container["workingDir"] == "/b"
    assert "workingDir" not in ask("--workdir b").container


def test_labels(ask: Ask) -> None:
    arguments = "--label team=a -l example.com/x=1 --label example.com/flag --label other=b --label clearml-task-id=x"
    pod = ask(
        f"{arguments} --label clearml-k8s.io/controller=x --label 'team=no value' --label 'no name=x'", policy=OPEN
    )
    assert {key: pod.labels[key] for key in ("team", "example.com/x", "example.com/flag")} == {
        "team": "a",
        "example.com/x": "1",
        "example.com/flag": "",
    }
    assert "other" not in pod.labels
    assert len(pod.told) == 5
    every = ask("--label clearml-task-id=x --label CLEARML=x", policy=TaskPolicy(labels=("*",)))
    assert every.labels == ask("").labels


# ---- the policy -----------------------------------------------------------------------------------------------------


def test_a_queues_own_policy_takes_the_place_of_the_general_one(ask: Ask) -> None:
    assert ask("--privileged", policy=OPEN, own=SAFE).security == {}
    assert ask("--privileged", own=OPEN).security["privileged"] is True


def test_a_queues_policy_sets_single_keys() -> None:
    general = read({"hostPaths": ["/a"], "capabilities": ["CAP_SYS_PTRACE"], "sharedMemory": "1Gi"}, over=SAFE)
    assert general == TaskPolicy(host_paths=("/a",), capabilities=("SYS_PTRACE",), shared_memory="1Gi")
    own = read({"privileged": True, "hostPaths": [], "sharedMemory": None}, over=general)
    assert own == dataclasses.replace(general, privileged=True, host_paths=())
    assert read({"sharedMemory": ""}, over=general).shared_memory == ""
    assert read({"sharedMemory": 0}, over=general).shared_memory == "0"
    assert read(None, over=general) is not None


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0"), (1, "1"), (1024, "1Ki"), (1536, "1536"), (3 * 1024**3, "3Gi"), (1024**6, "1024Pi")]
)
def test_sizes_are_written_in_the_largest_unit(amount: int, text: str) -> None:
    assert bytes_quantity(amount) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("2k", 2048), ("1.5m", 1572864), ("1GiB", 1024**3), ("1 tb", 1024**4), ("b", None), ("1q", None)],
)
def test_sizes_as_docker_writes_them(text: str, size: int | None) -> None:
    assert docker_size(text) == (None if size is None else Decimal(size))
