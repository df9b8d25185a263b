module clearml-k8s.local/ci/tools/pause

go 1.26.0

tool clearml-k8s.local/ci/tools/pause
