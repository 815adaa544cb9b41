import Testing

/// The checks themselves: each finds what it is for, at the right line, and is not fooled by comments and strings.
@Suite struct ChecksTests {
    private func source(_ text: String) -> RepositoryFile { RepositoryFile(path: "Sources/Sample/Sample.swift", text: text) }

    @Test(arguments: [
        "let a = try! f()", "let a = b!", "let a = b![0]", "let a = f()! + 1", "x as! Int", "fatalError(\"no\")", "var a: Int!",
    ])
    func trapsAreFound(line: String) {
        #expect(Checks.traps(source("import A\n" + line)).map(\.line) == [2])
    }

    @Test(arguments: [
        "a != b", "if !ready { }", "// try! is forbidden", "let a = \"b!\"", "/* a! */ let b = 1", "let a = #\"\"quoted\"!\"#",
        "let a = \"\"\"\n  wow!\n  \"\"\"", "let a = \"\\\"b!\"",
    ])
    func harmlessLinesAreNot(line: String) {
        #expect(Checks.traps(source(line)).isEmpty)
    }

    @Test func functionLengthCountsSignatureToBrace() {
        let body = String(repeating: "        work() // {\n", count: 70)
        let text = "struct A {\n    func short() { }\n    public func long(\n        a: Int = { 1 }()\n    ) {\n\(body)    }\n}\n"
        let findings = Checks.functionLength(source(text))
        #expect(findings.map(\.line) == [3])
        #expect(findings.first?.problem.contains("74 lines") == true)
    }

    @Test func requirementsWithoutBodyAreNoFunctions() {
        let text =
            "protocol P {\n    func a()\n    func b() throws\n}\nstruct A {\n" + String(repeating: "    let x = 1\n", count: 80) + "}\n"
        #expect(Checks.functionLength(source(text)).isEmpty)
    }

    @Test func longLinesAreFound() {
        #expect(Checks.lineLength(source("short\n" + String(repeating: "x", count: 141))).map(\.line) == [2])
        #expect(Checks.lineLength(source(String(repeating: "x", count: 140))).isEmpty)
    }

    @Test func longFilesAreFound() {
        #expect(Checks.fileLength(source(String(repeating: "x\n", count: 501))).count == 1)
        #expect(Checks.fileLength(source(String(repeating: "x\n", count: 500))).isEmpty)
    }

    @Test func undocumentedDeclarationsAreFound() {
        let text =
            "/// Documented.\n@frozen\npublic struct A {\n    public var a = 1\n    /// Documented.\n    public static func b() { }\n}\n"
        #expect(Checks.undocumented(source(text)).map(\.line) == [4])
    }

    @Test func foundationIsFound() {
        let text = "import FoundationEssentials\ninternal import Foundation\n// import Foundation\n"
        #expect(Checks.foundation(source(text)).map(\.line) == [2])
    }

    @Test func workplacePathsAreFound() {
        #expect(Checks.forbiddenWords(source("a\nb /wo" + "rk/x")).map(\.line) == [2])
    }

    @Test func deadLinksAreFound() {
        let page = RepositoryFile(path: "docs/a.md", text: "[ok](../Package.swift) [web](https://example.org/x)\n[bad](nowhere.md#x)\n")
        #expect(Checks.deadLinks(page).map(\.line) == [2])
    }

    @Test func deadPathsAreFound() {
        let text = "see `Sources/Store`, `Tests/TidyTests/*.swift`, `images/NAME`\nand `Sources/Nowhere/{a,b}`\nor `docs/nowhere.md`\n"
        #expect(Checks.deadPaths(RepositoryFile(path: "docs/a.md", text: text)).map(\.line) == [2, 3])
    }

    @Test func declaredTypesAreFound() {
        let text = "public final class A {\n    struct B: C {}\n}\n// struct No\nextension D { }\nprivate(set) var e = F()\n"
        #expect(Checks.types(source(text)) == ["A", "B", "D"])
    }

    @Test func carelessScriptsAreFound() {
        let script = RepositoryFile(path: "scripts/nowhere", text: "#!/usr/bin/env bash\necho\n")
        #expect(Checks.scriptsStopAtErrors(script).count == 2)
    }
}
