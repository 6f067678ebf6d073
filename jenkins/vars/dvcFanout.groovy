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
        repository: '', branch: 'main', targetBranch: '', pipelines: '', amend: false,
        message: 'Run pipelines with dvc-fanout', author: 'dvc-fanout <dvc-fanout@localhost>',
        engine: 'kubernetes', machine: 'm', workers: 10, gpu: 'none', launchArguments: [],
        remote: '', fetch: true, pullRequest: '', pullRequestHost: 'github.com', notify: '',
        image: '', registry: '', dockerfile: 'Dockerfile', buildArguments: [:], builder: 'quay.io/buildah/stable',
        shared: '/shared', cache: '', claim: 'dvc-shared', serviceAccount: 'dvc-fanout', user: 1000, pullSecret: '',
        requests: [cpu: '1', memory: '2Gi'], finalizeRequests: [cpu: '2', memory: '8Gi'],
        gitCredentials: '', registryCredentials: '', pullRequestCredentials: '', remoteCredentials: [:],
    ]
}

def call(Map given = [:]) {
    Map config = defaults() + given
    if (!(config.gpu in ['none', 'map', 'reduce', 'all'])) {
        error("gpu is none, map, reduce or all, not ${config.gpu}")
    }
    config.targetBranch = config.targetBranch ?: config.branch
    // One folder for a job, which workers see too: the volume is theirs as well.
    config.folder = "${config.shared}/${named(env.JOB_NAME, '_')}"
    try {
        if (!config.image && config.registry) {
            stage('Image') { config.image = buildImage(config) }
        }
        boolean planned = false
        boolean complete = true
        pod(config, config.requests, 0) {
            stage('Checkout') { fetchProject(config) }
            dir(config.folder) {
                stage('Plan') { planned = plan(config) }
                if (planned) {
                    complete = launchAndCollect(config)
                }
            }
        }
        if (!planned) {
            echo('nothing to do: no stage has changed')
            return
        }
        pod(config, config.finalizeRequests, config.gpu in ['reduce', 'all'] ? 1 : 0) {
            dir(config.folder) {
                complete = finalizeAndPush(config) && complete
            }
        }
        if (!complete) {
            unstable('some work items failed; everything good is committed')
            tell(config, 'is unstable', 'Some work items failed; everything good is committed.')
        }
    } catch (InterruptedException stopped) {
        throw stopped
    } catch (Exception failed) {
        tell(config, 'failed', failed.message)
        throw failed
    }
}

// Runs the work items and merges what they left. Returns whether all succeeded.
boolean launchAndCollect(Map config) {
    try {
        boolean launched = true
        boolean collected = true
        stage('Launch') { launched = launch(config) }
        stage('Collect') { collected = succeeded('dvc-fanout collect') }
        return launched && collected
    } catch (InterruptedException stopped) {
        throw stopped
    } catch (Exception failed) {
        stage('Report') { report(config) }
        throw failed
    }
}

// Runs the stages that are left, commits and pushes; the report tells how far that came. Returns whether all succeeded.
boolean finalizeAndPush(Map config) {
    boolean finalized = true
    try {
        stage('Finalize') { finalized = finalizeAndCommit(config) }
        stage('Push') { push(config) }
    } finally {
        stage('Report') { report(config) }
    }
    return finalized
}

// Text as one word of a shell command.
String quote(Object text) {
    return "'" + text.toString().replace("'", "'\\''") + "'"
}

// Text as part of a file's name or an image's tag.
String named(String text, String other) {
    return text.replaceAll('[^A-Za-z0-9._-]', other)
}

// Runs a command of dvc-fanout. Returns whether all succeeded; where only some work items failed, it did not.
boolean succeeded(String command) {
    int code = sh(script: command, returnStatus: true)
    if (!(code in [0, 1])) {
        error("`${command}` ended with exit code ${code}")
    }
    return code == 0
}

// Runs steps in a pod with the project's own image and the shared volume. It asks for as many GPUs.
//
// The container of Jenkins' agent sees the volume too, since it writes there what a step is to run. All containers, and
// workers after them, have one user and group 0, so that each may write what another made.
def pod(Map config, Map requests, int gpus, Closure steps) {
    String limits = gpus ? "\n      limits: {nvidia.com/gpu: ${gpus}}" : ''
    String secrets = config.pullSecret ? "\n  imagePullSecrets: [{name: ${config.pullSecret}}]" : ''
    String yaml = """\
apiVersion: v1
kind: Pod
spec:
  serviceAccountName: ${config.serviceAccount}
  securityContext: {runAsUser: ${config.user}, runAsGroup: 0, fsGroup: 0, fsGroupChangePolicy: OnRootMismatch}${secrets}
  containers:
  - name: jnlp
    volumeMounts:
    - {name: shared, mountPath: ${config.shared}}
  - name: project
    image: ${config.image}
    command: [sleep, infinity]
    resources:
      requests: {cpu: '${requests.cpu}', memory: '${requests.memory}'}${limits}
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
    String image = "${config.registry}:${named(env.BUILD_TAG, '-')}"
    String arguments = ''
    for (name in config.buildArguments.keySet()) {
        arguments += ' --build-arg ' + quote("${name}=${config.buildArguments[name]}")
    }
    String yaml = """\
apiVersion: v1
kind: Pod
spec:
  containers:
  - name: builder
    image: ${config.builder}
    command: [sleep, infinity]
    securityContext: {runAsUser: 0, privileged: true}
    volumeMounts:
    - {name: layers, mountPath: /var/lib/containers}
  volumes:
  - name: layers
    emptyDir: {}
"""
    podTemplate(yaml: yaml) {
        node(POD_LABEL) {
            checkoutBranch(config)
            container('builder') {
                sh("buildah build -f ${quote(config.dockerfile)}${arguments} -t ${quote(image)} .")
                withEnv(["IMAGE=${image}"]) {
                    if (config.registryCredentials) {
                        login(config)
                    }
                    sh('buildah push "$IMAGE"')
                }
            }
        }
    }
    return image
}

def login(Map config) {
    withCredentials([usernamePassword(credentialsId: config.registryCredentials,
            usernameVariable: 'REGISTRY_USER', passwordVariable: 'REGISTRY_PASSWORD')]) {
        sh('printf %s "$REGISTRY_PASSWORD" |' +
            ' buildah login --username "$REGISTRY_USER" --password-stdin "${IMAGE%%/*}"')
    }
}

def checkoutBranch(Map config) {
    checkout([$class: 'GitSCM', branches: [[name: "refs/heads/${config.branch}"]],
        extensions: [[$class: 'LocalBranch', localBranch: '**']],
        userRemoteConfigs: [[url: config.repository, credentialsId: config.gitCredentials]]])
}

// Checks the project out where workers see it. DVC's data is in the shared cache, which all builds and workers use.
def fetchProject(Map config) {
    dir(config.folder) {
        checkoutBranch(config)
        // What a build left that came to no commit does not get into the next one's.
        sh('git clean --quiet --force -d')
        sh("dvc cache dir --local ${quote(config.cache ?: config.shared + '/cache')}")
        if (config.fetch) {
            withRemote(config) {
                // Outs that no remote has are made anew, and inputs that no remote has are named by the plan.
                if (sh(script: "dvc fetch --quiet${onRemote(config)}", returnStatus: true) != 0) {
                    echo('not all data could be fetched; the plan tells whether it matters')
                }
            }
        }
        sh('dvc checkout --quiet --force --allow-missing')
    }
}

// Runs steps with the credentials of the DVC remote in the environment.
def withRemote(Map config, Closure steps) {
    List secrets = []
    for (variable in config.remoteCredentials.keySet()) {
        secrets.add(string(credentialsId: config.remoteCredentials[variable], variable: variable))
    }
    withCredentials(secrets) { steps() }
}

String onRemote(Map config) {
    return config.remote ? " --remote ${quote(config.remote)}" : ''
}

// Plans, and returns whether there is something to do.
boolean plan(Map config) {
    String targets = ''
    for (target in config.pipelines.tokenize(' ,\n')) {
        targets += ' ' + quote(target)
    }
    String command = "dvc-fanout plan --exit-code${targets ?: ' --all-pipelines'}"
    int code = sh(script: command, returnStatus: true)
    if (!(code in [0, 10])) {
        error("`${command}` ended with exit code ${code}")
    }
    return code == 10
}

// Runs the work items. Returns whether all succeeded. An abort ends the workers before it ends the build.
boolean launch(Map config) {
    List<String> arguments = ['-j', config.workers, '--engine', config.engine]
    if (config.engine == 'kubernetes') {
        arguments += ['--image', config.image, '--machine', config.machine]
        arguments += ['--volume', "pvc:${config.claim}:${config.shared}"]
        arguments += config.pullSecret ? ['--pull-secret', config.pullSecret] : []
        arguments += config.gpu in ['map', 'all'] ? ['--pod-gpus', '1'] : []
    }
    String command = 'dvc-fanout launch'
    for (argument in arguments + config.launchArguments) {
        command += ' ' + quote(argument)
    }
    try {
        return succeeded(command)
    } catch (InterruptedException stopped) {
        // The launcher was told to end and ends its workers. The pod has to stay until it is done with that.
        sh(script: 'dvc-fanout cancel', returnStatus: true)
        throw stopped
    }
}

// Runs the stages that are left and commits all that is good, in a commit of its own or as part of the last one.
// Returns whether all succeeded.
boolean finalizeAndCommit(Map config) {
    String name = config.author.tokenize('<')[0].trim()
    String address = config.author.tokenize('<>')[1]
    String before = head()
    boolean finalized = true
    withEnv(["GIT_COMMITTER_NAME=${name}", "GIT_COMMITTER_EMAIL=${address}",
            "GIT_AUTHOR_NAME=${name}", "GIT_AUTHOR_EMAIL=${address}"]) {
        finalized = succeeded("dvc-fanout finalize --commit=${quote(config.message)} --commit-partial")
        if (config.amend && head() != before) {
            sh("git reset --quiet --soft ${before} && git commit --quiet --amend --no-edit")
        }
    }
    return finalized
}

String head() {
    return sh(script: 'git rev-parse HEAD', returnStdout: true).trim()
}

// Pushes data before the commit that speaks of it.
def push(Map config) {
    withRemote(config) {
        sh("dvc push --quiet${onRemote(config)}")
    }
    List git = config.gitCredentials ? [gitUsernamePassword(credentialsId: config.gitCredentials)] : []
    withCredentials(git) {
        // An amended commit replaces only the one that was checked out.
        String lease = config.amend ? ' --force-with-lease' : ''
        sh("git push --quiet${lease} origin HEAD:refs/heads/${quote(config.targetBranch)}")
    }
}

// Shows the report in Jenkins and at the pull request. It is written where git does not see it. A report that fails is
// no reason to fail the build.
def report(Map config) {
    catchError(buildResult: null, stageResult: 'UNSTABLE') {
        dir('.dvc/fanout/report') {
            for (format in [['html', 'report.html'], ['junit', 'junit.xml'], ['markdown', 'report.md']]) {
                sh("dvc-fanout report --format ${format[0]} --output ${format[1]}")
            }
            junit(testResults: 'junit.xml', allowEmptyResults: true, skipMarkingBuildUnstable: true)
            archiveArtifacts(artifacts: 'report.html,report.md,junit.xml')
            if (config.pullRequest) {
                comment(config)
            }
        }
    }
}

def comment(Map config) {
    String variable = 'PULL_REQUEST_TOKEN'
    withCredentials([string(credentialsId: config.pullRequestCredentials, variable: variable)]) {
        withEnv(["PULL_REQUEST=${config.pullRequest}", "PULL_REQUEST_HOST=${config.pullRequestHost}"]) {
            sh("python3 - report.md <<'END'\n${libraryResource('dvc-fanout/comment.py')}\nEND")
        }
    }
}

// Sends a mail about the build to whom it may concern.
def tell(Map config, String what, String why) {
    if (config.notify) {
        mail(to: config.notify, subject: "${env.JOB_NAME} ${env.BUILD_NUMBER} ${what}",
            body: "${why}\n\n${env.BUILD_URL}")
    }
}
