// Runs the pipeline with recording doubles for Jenkins' steps. `sh` really runs its command; pods, containers and
// credentials are only entered. Prints the build's result last.
//
//     groovy harness.groovy REPOSITORY SHARED [abort:PREFIX=FILE] [NAME=VALUE…]
//
// With `abort:PREFIX=FILE`, the command that begins with PREFIX is told to end once FILE exists, as by an abort.

import java.util.concurrent.TimeUnit

class Steps {
    String folder
    String result = 'SUCCESS'
    String abortPrefix
    File abortFile
    Map env = [JOB_NAME: 'team/project', BUILD_TAG: 'jenkins-team-project-1', BUILD_NUMBER: '1', BUILD_URL: 'http://x/']
    String POD_LABEL = 'pod'
    File resources

    def stage(String name, Closure steps) { println("stage: ${name}"); steps() }
    def podTemplate(Map options, Closure steps) { println("pod: ${options.yaml.contains('nvidia.com/gpu')}"); steps() }
    def node(String label, Closure steps) { steps() }
    def container(String name, Closure steps) { steps() }
    def withCredentials(List bindings, Closure steps) { steps() }
    def withEnv(List variables, Closure steps) { steps() }
    def string(Map options) { options }
    def usernamePassword(Map options) { options }
    def gitUsernamePassword(Map options) { options }
    def echo(String text) { println("echo: ${text}") }
    def unstable(String text) { println("unstable: ${text}"); result = 'UNSTABLE' }
    def error(String text) { throw new RuntimeException(text) }
    def mail(Map message) { println("mail: ${message.subject}") }
    def libraryResource(String path) { new File(resources, path).text }

    def catchError(Map options, Closure steps) {
        try {
            steps()
        } catch (RuntimeException caught) {
            println("caught: ${caught.message}")
        }
    }

    def junit(Map options) {
        def suites = new XmlSlurper().parse(new File(folder, options.testResults))
        println("junit: ${suites.@tests} tests, ${suites.@failures} failures")
    }

    def archiveArtifacts(Map options) {
        def parts = options.artifacts.split('/')
        println("archived: ${new File(folder, parts[0]).list().sort().join(' ')}")
    }

    def dir(String path, Closure steps) {
        def before = folder
        folder = path
        new File(path).mkdirs()
        try {
            steps()
        } finally {
            folder = before
        }
    }

    def checkout(Map scm) {
        def remote = scm.userRemoteConfigs[0]
        sh("git clone --quiet --branch '${scm.branches[0].name}' '${remote.url}' .")
    }

    def sh(String script) {
        def code = sh(script: script, returnStatus: true)
        if (code != 0) {
            throw new RuntimeException("script returned exit code ${code}")
        }
    }

    def sh(Map options) {
        println("sh: ${options.script.readLines()[0]}")
        System.out.flush()
        def process = new ProcessBuilder('sh', '-c', "exec ${options.script.contains(' && ') ? 'sh -c \"$0\"' : options.script}",
            options.script).directory(new File(folder)).redirectErrorStream(true).start()
        def copy = Thread.start { process.inputStream.eachLine { line -> println("  ${line}") } }
        if (abortPrefix && options.script.startsWith(abortPrefix)) {
            def limit = System.currentTimeMillis() + 120000
            while (!abortFile.exists() && process.alive && System.currentTimeMillis() < limit) { sleep(50) }
            process.destroy()
            process.waitFor(60, TimeUnit.SECONDS)
            throw new InterruptedException('aborted')
        }
        def code = process.waitFor()
        copy.join()
        if (!options.returnStatus && code != 0) {
            throw new RuntimeException("script returned exit code ${code}")
        }
        return code
    }
}

def jenkins = new File(getClass().protectionDomain.codeSource.location.path).parentFile.parentFile
def steps = new Steps(folder: args[1], resources: new File(jenkins, 'resources'))
def config = [repository: args[0], shared: args[1], engine: 'local', workers: 2, image: 'registry/project:1',
    notify: 'team@example.com']
for (argument in args.drop(2)) {
    def (name, value) = argument.split('=', 2)
    if (name.startsWith('abort:')) {
        steps.abortPrefix = name - 'abort:'
        steps.abortFile = new File(value)
    } else {
        config[name] = value == 'true' ? true : value
    }
}
def script = new GroovyShell().parse(new File(jenkins, 'vars/dvcFanout.groovy'))
script.metaClass.methodMissing = { String name, Object given -> steps.invokeMethod(name, given) }
script.metaClass.propertyMissing = { String name -> steps[name] }
script.binding = new Binding(env: steps.env, POD_LABEL: steps.POD_LABEL)
try {
    script.call(config)
} catch (InterruptedException stopped) {
    steps.result = 'ABORTED'
} catch (Exception failed) {
    println("failed: ${failed.message}")
    steps.result = 'FAILURE'
}
println("result: ${steps.result}")
