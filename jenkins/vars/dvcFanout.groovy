// A shared-library step: fans the map stages of a DVC project out over a cluster, merges the results, runs the rest,
// commits, pushes and reports. See ../README.md for its settings and for what Jenkins needs.
//
// The build's result follows the exit codes of dvc-fanout: 0 is SUCCESS, 1 (some work items failed) is UNSTABLE with
// everything good committed, anything else is FAILURE. An abort stops the workers.
//
// Whatever a person typed reaches a shell through quote() or the environment only. Secrets come from credentials
// bindings and are read by the shell, never put into a command by Groovy.

// What there is where nothing else is said.
Map defaults() {
    return [
        repository: '', branch: 'main', targetBranch: '', pipelines: '', message: 'Run pipelines with dvc-fanout',
        amend: false, engine: 'kubernetes', machine: 'm', workers: 10, gpu: 'none', remote: '', pullRequest: '',
        image: '', registry: '', dockerfile: 'Dockerfile', buildArguments: [:], shared: '/shared', cache: '', claim: 'dvc-shared',
        serviceAccount: 'dvc-fanout', launchArguments: [],
        gitCredentials: '', registryCredentials: '', pullRequestCredentials: '', remoteCredentials: [:], notify: '',
    ]
}

def call(Map given = [:]) {
    Map config = defaults() + given
    if (!(config.gpu in ['none', 'map', 'reduce', 'all'])) {
        error("gpu is none, map, reduce or all, not ${config.gpu}")
    }
    config.targetBranch = config.targetBranch ?: config.branch
    // One folder for a job, which workers see too: the volume is theirs as well.
    config.folder = "${config.shared}/${env.JOB_NAME.replaceAll('[^A-Za-z0-9._-]', '_')}"
    try {
        if (!config.image && config.registry) {
            stage('Image') { config.image = buildImage(config) }
        }
        boolean planned = false
        int launched = 0
        pod(config, 0) {
            stage('Checkout') { fetchProject(config) }
            dir(config.folder) {
                stage('Plan') { planned = plan(config) }
                if (planned) {
                    stage('Launch') { launched = launch(config) }
                    stage('Collect') { must('dvc-fanout collect', [0]) }
                }
            }
        }
        if (!planned) {
            echo('nothing to do: no stage has changed')
            return
        }
        int finalized = 0
        pod(config, config.gpu in ['reduce', 'all'] ? 1 : 0) {
            dir(config.folder) {
                try {
                    stage('Finalize') { finalized = must('dvc-fanout finalize', [0, 1]) }
                    stage('Commit') { commit(config) }
                    stage('Push') { push(config) }
                } finally {
                    stage('Report') { report(config) }
                }
            }
        }
        if (launched == 1 || finalized == 1) {
            unstable('some work items failed; everything good is committed')
        }
    } catch (InterruptedException stopped) {
        throw stopped
    } catch (Exception failed) {
        notifyOf(config, failed)
        throw failed
    }
}

// Text as one word of a shell command.
String quote(Object text) {
    return "'" + text.toString().replace("'", "'\\''") + "'"
}

// Runs a command whose exit code has to be one of some, and returns it.
int must(String command, List<Integer> codes) {
    int code = sh(script: command, returnStatus: true)
    if (!(code in codes)) {
        error("`${command}` ended with exit code ${code}")
    }
    return code
}

// Runs steps in a pod with the project's own image and the shared volume. It asks for as many GPUs.
def pod(Map config, int gpus, Closure steps) {
    String gpu = gpus ? "\n      limits: {nvidia.com/gpu: ${gpus}}" : ''
    String yaml = """\
apiVersion: v1
kind: Pod
spec:
  serviceAccountName: ${config.serviceAccount}
  containers:
  - name: project
    image: ${config.image}
    command: [sleep, infinity]
    resources:
      requests: {cpu: 1, memory: 2Gi}${gpu}
    volumeMounts:
    - {name: shared, mountPath: ${config.shared}}
  volumes:
  - name: shared
    persistentVolumeClaim: {claimName: ${config.claim}}
"""
    podTemplate(yaml: yaml) {
        node(POD_LABEL) {
            container('project') { steps() }
        }
    }
}

// Builds the project's image from its Dockerfile, pushes it, and returns its name.
String buildImage(Map config) {
    String image = "${config.registry}:${env.BUILD_TAG.replaceAll('[^A-Za-z0-9._-]', '-')}"
    String arguments = ''
    for (name in config.buildArguments.keySet()) {
        arguments += ' --build-arg ' + quote("${name}=${config.buildArguments[name]}")
    }
    String yaml = '''\
apiVersion: v1
kind: Pod
spec:
  containers:
  - name: buildah
    image: quay.io/buildah/stable
    command: [sleep, infinity]
    securityContext: {privileged: true}
'''
    podTemplate(yaml: yaml) {
        node(POD_LABEL) {
            checkoutBranch(config)
            container('buildah') {
                sh("buildah build -f ${quote(config.dockerfile)}${arguments} -t ${quote(image)} .")
                withCredentials([usernamePassword(credentialsId: config.registryCredentials,
                        usernameVariable: 'REGISTRY_USER', passwordVariable: 'REGISTRY_PASSWORD')]) {
                    withEnv(["IMAGE=${image}"]) {
                        sh('printf %s "$REGISTRY_PASSWORD" |' +
                            ' buildah login --username "$REGISTRY_USER" --password-stdin "${IMAGE%%/*}"')
                        sh('buildah push "$IMAGE"')
                    }
                }
            }
        }
    }
    return image
}

def checkoutBranch(Map config) {
    checkout([$class: 'GitSCM', branches: [[name: config.branch]], extensions: [[$class: 'LocalBranch', localBranch: '**']],
        userRemoteConfigs: [[url: config.repository, credentialsId: config.gitCredentials]]])
}

// Checks the project out where workers see it. DVC's data is in the shared cache, which all builds and workers use.
def fetchProject(Map config) {
    dir(config.folder) {
        checkoutBranch(config)
        sh("dvc cache dir --local ${quote(config.cache ?: config.shared + '/cache')}")
        sh('dvc checkout --quiet --allow-missing')
    }
}

// Plans, and returns whether there is something to do.
boolean plan(Map config) {
    String targets = ''
    for (target in config.pipelines.tokenize(' ,\n')) {
        targets += ' ' + quote(target)
    }
    return must("dvc-fanout plan --exit-code${targets ?: ' --all-pipelines'}", [0, 10]) == 10
}

// Runs the work items and returns 0, or 1 where some failed. An abort ends the workers before it ends the build.
int launch(Map config) {
    List<String> arguments = ['-j', config.workers, '--engine', config.engine]
    if (config.engine == 'kubernetes') {
        arguments += ['--image', config.image, '--machine', config.machine]
        arguments += ['--volume', "pvc:${config.claim}:${config.shared}"]
        if (config.gpu in ['map', 'all']) {
            arguments += ['--pod-gpus', '1']
        }
    }
    String command = 'dvc-fanout launch'
    for (argument in arguments + config.launchArguments) {
        command += ' ' + quote(argument)
    }
    try {
        return must(command, [0, 1])
    } catch (InterruptedException stopped) {
        // The shell was told to end, and may have been killed before the launcher could end its workers.
        sh(script: 'dvc-fanout cancel', returnStatus: true)
        throw stopped
    }
}

// Commits what changed, in a commit of its own or as part of the last one.
def commit(Map config) {
    sh('git add --all .')
    if (sh(script: 'git diff --cached --quiet', returnStatus: true) == 0) {
        echo('nothing to commit')
        return
    }
    sh(config.amend ? 'git commit --quiet --amend --no-edit' : "git commit --quiet --message ${quote(config.message)}")
}

// Pushes data before the commit that speaks of it.
def push(Map config) {
    List secrets = []
    for (variable in config.remoteCredentials.keySet()) {
        secrets.add(string(credentialsId: config.remoteCredentials[variable], variable: variable))
    }
    withCredentials(secrets) {
        sh('dvc push' + (config.remote ? " --remote ${quote(config.remote)}" : ''))
    }
    List git = config.gitCredentials ? [gitUsernamePassword(credentialsId: config.gitCredentials)] : []
    withCredentials(git) {
        // An amended commit replaces only the one that was checked out.
        String lease = config.amend ? ' --force-with-lease' : ''
        sh("git push --quiet${lease} origin HEAD:refs/heads/${quote(config.targetBranch)}")
    }
}

// Shows the report in Jenkins and at the pull request. A report that fails is no reason to fail the build.
def report(Map config) {
    catchError(buildResult: null, stageResult: 'UNSTABLE') {
        sh('rm -rf report && mkdir report')
        for (format in [['html', 'report.html'], ['junit', 'junit.xml'], ['markdown', 'report.md']]) {
            sh("dvc-fanout report --format ${format[0]} --output report/${format[1]}")
        }
        junit(testResults: 'report/junit.xml', allowEmptyResults: true, skipMarkingBuildUnstable: true)
        archiveArtifacts(artifacts: 'report/*')
        if (config.pullRequest) {
            withCredentials([string(credentialsId: config.pullRequestCredentials, variable: 'PULL_REQUEST_TOKEN')]) {
                withEnv(["PULL_REQUEST=${config.pullRequest}"]) {
                    sh("python3 - report/report.md <<'END'\n${libraryResource('dvc-fanout/comment.py')}\nEND")
                }
            }
        }
        sh('rm -rf report')
    }
}

def notifyOf(Map config, Exception failed) {
    if (config.notify) {
        mail(to: config.notify, subject: "${env.JOB_NAME} ${env.BUILD_NUMBER} failed",
            body: "${failed.message}\n\n${env.BUILD_URL}")
    }
}
