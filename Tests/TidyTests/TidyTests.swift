import Foundation
import Testing

/// The whole repository against the rules of CONTRIBUTING.md; each failure names file and line.
@Suite struct TidyTests {
    private func check(_ check: (RepositoryFile) -> [Finding], sourceLocation: SourceLocation = #_sourceLocation) {
        for finding in Repository.files.flatMap(check) {
            Issue.record(Comment(rawValue: finding.description), sourceLocation: sourceLocation)
        }
    }

    @Test func filesAreFound() {
        #expect(Repository.files.count > 30)
        #expect(Repository.files.contains { $0.path == "Tests/TidyTests/TidyTests.swift" })
    }

    @Test func linesAreShort() { check(Checks.lineLength) }
    @Test func filesAreShort() { check(Checks.fileLength) }
    @Test func functionsAreShort() { check(Checks.functionLength) }
    @Test func nothingNamesTheWorkplace() { check(Checks.forbiddenWords) }
    @Test func sourcesDoNotTrap() { check(Checks.traps) }
    @Test func publicDeclarationsAreDocumented() { check(Checks.undocumented) }
    @Test func foundationStaysOutside() { check(Checks.foundation) }
    @Test func linksLeadSomewhere() { check(Checks.deadLinks) }
    @Test func pathsLeadSomewhere() { check(Checks.deadPaths) }
    @Test func scriptsStopAtErrors() { check(Checks.scriptsStopAtErrors) }

    /// A folder of which no test names a type is tested by chance at best.
    @Test func everyFolderIsNamedByATest() {
        var types: [String: Set<String>] = [:]
        for file in Repository.files where file.isSwift && file.path.hasPrefix("Sources/") {
            types[(file.path as NSString).deletingLastPathComponent, default: []].formUnion(Checks.types(file))
        }
        let tests = Repository.files.filter { $0.isSwift && $0.path.hasPrefix("Tests/") }
        let words = Set(tests.flatMap { $0.text.split { !($0.isLetter || $0.isNumber || $0 == "_") } })
        for (folder, names) in types.sorted(by: { $0.key < $1.key }) where !names.isEmpty {
            #expect(names.contains { words.contains(Substring($0)) }, "no test names a type of \(folder)")
        }
    }

    /// A library without a test that imports it is not tested.
    ///
    /// The guest's programs and the command cannot be imported: tests run them.
    @Test func everyLibraryIsTested() {
        let sources = Repository.files.filter { $0.isSwift && $0.path.hasPrefix("Sources/") }
        let libraries = Set(sources.compactMap { $0.path.split(separator: "/").dropFirst().first.map(String.init) })
        let tests = Repository.files.filter { $0.isSwift && $0.path.hasPrefix("Tests/") }
        for library in libraries.subtracting(["aurora", "GuestAgent"]).sorted() {
            let isTested = tests.contains { $0.text.contains("import \(library)\n") && $0.text.contains("@Test") }
            #expect(isTested, "no test imports \(library)")
        }
    }
}
