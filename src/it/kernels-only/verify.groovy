// Every line of expected.txt was printed, and no other jar stood on the class path. Other lines (a JVM's warnings)
// are let through. version, javacpp and platform are variables of the outer build (scriptVariables in its pom.xml).
def output = new File(basedir, 'target/output.txt').readLines('UTF-8')
def expected = new File(basedir, 'expected.txt').readLines('UTF-8').collect {
  it.replace('${version}', version).replace('${javacpp}', javacpp).replace('${platform}', platform)
}
def missing = expected - output
def unexpectedJars = output.findAll { it.startsWith('jar ') } - expected
if (missing || unexpectedJars) {
  println "not printed: ${missing}\nunexpected: ${unexpectedJars}\noutput:\n${output.join('\n')}"
  return false
}

// The jar is a module that exports the kernels, and neither their loading and calling nor the command line.
def jar = new File(localRepositoryPath, "org/teamtr/teamtr/${version}/teamtr-${version}.jar")
def module = java.lang.module.ModuleFinder.of(jar.toPath()).find('org.teamtr').get().descriptor()
def exported = module.exports().collect { it.source() }
if (module.automatic || !exported.contains('org.teamtr.kernels') || exported.any { it =~ /\.(internal|cli)\b/ }) {
  println "module: ${module} exports ${exported}"
  return false
}
true
