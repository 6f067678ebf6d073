// Runs the Jenkinsfile with recording doubles for Jenkins' steps. `sh` really runs its command; pods, containers and
// credentials are only entered. Prints the build's result last.
//
//     groovy harness.groovy [PARAMETER=VALUE…] [set:SETTING=VALUE…] [pods:FOLDER] [abort:PREFIX=FILE]
//
// `set:` overrides a setting that the Jenkinsfile gives to the step. `pods:` is a folder that gets a file for each pod,
// in their order. With `abort:`, the command that begins with PREFIX is told to end once FILE exists, as by an abort.

import java.util.concurrent.TimeUnit

@interface Library {

    String value()

}

class Steps {

    static final String COOKIE = "JENKINS_SERVER_COOKIE=${UUID.randomUUID()}"

    String folder
    String result = 'SUCCESS'
    File resources
    File pods
    String abortPrefix
    File abortFile
    Map env = [JOB_NAME: 'team/project', BUILD_TAG: 'jenkins-team-project-1', BUILD_NUMBER: '1', BUILD_URL: 'http://x/']
    // As typed; those that are not typed get their defaults when the job tells its parameters.
    Map params = [:]
    // What `sh` has in its environment besides.
    Map variables = [:]
    int podCount = 0
    boolean inNode = false

    void properties(List all) {
        def known = all.find { property -> property.parameters }.parameters
        for (name in params.keySet()) {
            assert known.any { parameter -> parameter.name == name } : "the job has no parameter ${name}"
        }
        for (parameter in known) {
            def given = params[parameter.name]
            assert given == null || !parameter.choices || given in parameter.choices : "${parameter.name}=${given}"
            def value = given ?: parameter.defaultValue ?: parameter.choices?.first() ?: ''
            params[parameter.name] = parameter.defaultValue in [true, false] ? value.toString() == 'true' : value
        }
    }

    Map parameters(List all) { return [parameters: all] }

    Map disableConcurrentBuilds() { return [concurrent: false] }

    Map string(Map options) { return options }

    Map booleanParam(Map options) { return options }

    Map choice(Map options) { return options }

    Map usernamePassword(Map options) { return options }

    Map gitUsernamePassword(Map options) { return options }

    void stage(String name, Closure steps) {
        println("stage: ${name}")
        steps()
    }

    void podTemplate(Map options, Closure steps) {
        new File(pods, "${podCount++}.yaml").text = options.yaml
        steps()
    }

    void node(String label, Closure steps) {
        assert label == 'label-of-the-pod'
        inNode = true
        try {
            steps()
        } finally {
            inNode = false
        }
    }

    void container(String name, Closure steps) {
        def pod = new File(pods, "${podCount - 1}.yaml").text
        assert pod.contains("- name: ${name}\n") : "the pod has no container ${name}"
        steps()
    }

    void withCredentials(List bindings, Closure steps) {
        def secrets = [:]
        for (binding in bindings) {
            String secret = 'secret-of-' + binding.credentialsId
            secrets << [(binding.variable): secret, (binding.usernameVariable): 'somebody',
                (binding.passwordVariable): secret]
        }
        with(secrets.findAll { name, value -> name }, steps)
    }

    void withEnv(List all, Closure steps) {
        with(all.collectEntries { text -> text.toString().split('=', 2) as List }, steps)
    }

    void with(Map more, Closure steps) {
        def before = variables
        variables = variables + more
        try {
            steps()
        } finally {
            variables = before
        }
    }

    void echo(String text) { println("echo: ${text}") }

    void error(String text) { throw new IllegalStateException(text) }

    void mail(Map message) { println("mail: ${message.subject}") }

    String libraryResource(String path) { return new File(resources, path).text }

    void unstable(String text) {
        println("unstable: ${text}")
        result = 'UNSTABLE'
    }

    void catchError(Map options, Closure steps) {
        try {
            steps()
        } catch (IllegalStateException caught) {
            println("${options.stageResult}: ${caught.message}")
        }
    }

    void junit(Map options) {
        def suites = new XmlSlurper().parse(new File(folder, options.testResults))
        println("junit: ${suites.@tests} tests, ${suites.@failures} failures")
    }

    void archiveArtifacts(Map options) {
        for (name in options.artifacts.split(',')) {
            assert new File(folder, name).length() > 0 : name
        }
        println("archived: ${options.artifacts}")
    }

    void dir(String path, Closure steps) {
        def before = folder
        folder = path.startsWith('/') ? path : "${folder}/${path}"
        new File(folder).mkdirs()
        try {
            steps()
        } finally {
            folder = before
        }
    }

    // As the git plugin with LocalBranch: what was changed is overwritten, what git does not know stays.
    void checkout(Map scm) {
        def (branch, url) = [scm.branches[0].name - 'refs/heads/', scm.userRemoteConfigs[0].url]
        sh("git init --quiet && git fetch --quiet '${url}' '+refs/heads/*:refs/remotes/origin/*'" +
            " && git checkout --quiet --force -B '${branch}' 'origin/${branch}'" +
            " && git config remote.origin.url '${url}'" +
            " && git config remote.origin.fetch '+refs/heads/*:refs/remotes/origin/*'")
    }

    Object sh(String script) { return sh(script: script) }

    Object sh(Map options) {
        assert inNode : "`${options.script}` is not in a node"
        println("sh: ${options.script.readLines()[0]}")
        System.out.flush()
        def builder = new ProcessBuilder('sh', '-c', options.script).directory(new File(folder))
        def (name, value) = COOKIE.split('=')
        builder.environment().put(name, value)
        builder.environment().putAll(variables)
        // A container knows nobody.
        builder.environment().keySet().removeAll { known ->
            known ==~ /GIT_(AUTHOR|COMMITTER)_(NAME|EMAIL)/ && !variables.containsKey(known)
        }
        def process = builder.redirectErrorStream(true).start()
        def lines = []
        def copy = Thread.start {
            process.inputStream.eachLine { line ->
                println("  ${line}")
                lines.add(line)
            }
        }
        if (abortPrefix && options.script.startsWith(abortPrefix)) {
            abort(process)
        }
        def code = process.waitFor()
        copy.join()
        if (!options.returnStatus && code != 0) {
            error("script returned exit code ${code}")
        }
        return options.returnStdout ? lines.join('\n') : code
    }

    // Jenkins finds what belongs to a step by a variable in its environment, and waits a while for it to end.
    void abort(Process process) {
        def limit = System.currentTimeMillis() + TimeUnit.MINUTES.toMillis(2)
        while (!abortFile.exists() && System.currentTimeMillis() < limit) {
            assert !process.waitFor(50, TimeUnit.MILLISECONDS)
        }
        String found = "grep -lz '^${COOKIE}\$' /proc/[0-9]*/environ 2>/dev/null"
        ['sh', '-c', "kill \$(${found} | cut -d/ -f3)"].execute().waitFor()
        process.waitFor(20, TimeUnit.SECONDS)
        throw new InterruptedException('aborted')
    }

}

File jenkins = new File(getClass().protectionDomain.codeSource.location.path).parentFile.parentFile
// What a pod's own workspace is to Jenkins.
File workspace = File.createTempDir()
addShutdownHook { workspace.deleteDir() }
Steps steps = new Steps(folder: workspace.path, resources: new File(jenkins, 'resources'))
Map settings = [:]
for (argument in args) {
    def (name, value) = argument.split('=', 2) + ['']
    switch (name) {
        case ~/abort:.*/:
            steps.abortPrefix = name - 'abort:'
            steps.abortFile = new File(value)
            break
        case ~/pods:.*/:
            steps.pods = new File(name - 'pods:')
            break
        case ~/set:.*/:
            settings[name - 'set:'] = value.startsWith('[') ? Eval.me(value) : value
            break
        default:
            steps.params[name] = value
    }
}
Binding binding = new Binding(env: steps.env, params: steps.params, POD_LABEL: 'label-of-the-pod')
GroovyShell shell = new GroovyShell(getClass().classLoader, binding)
Script library = shell.parse(new File(jenkins, 'vars/dvcFanout.groovy'))
library.metaClass.methodMissing = { String name, Object given -> steps.invokeMethod(name, given) }
Script job = shell.parse(new File(jenkins, 'Jenkinsfile'))
job.metaClass.methodMissing = { String name, Object given ->
    name == 'dvcFanout' ? library.call(given[0] + settings) : steps.invokeMethod(name, given)
}
try {
    job.run()
} catch (InterruptedException stopped) {
    steps.result = 'ABORTED'
} catch (IllegalStateException failed) {
    println("failed: ${failed.message}")
    steps.result = 'FAILURE'
}
println("result: ${steps.result}")
