import Foundation

/// What is checked of every file; each check answers with its findings.
enum Checks {
    static let lineLengthMax = 140
    static let fileLinesMax = 500
    static let functionLinesMax = 70
    /// Assembly has an instruction a line, and one file is one way through the processor.
    static let assemblyLinesMax = 1000

    /// Written in pieces, so that this file does not find itself.
    private static let forbiddenWords =
        ["/wo" + "rk/", "/opt/sw" + "ift", "py" + "pi" + ".org", "npmjs" + ".org", "crates" + ".io", "proxy.golang" + ".org"]
        + ["deb", "security", "snapshot"].map { $0 + ".debian" + ".org" }

    static func lineLength(_ file: RepositoryFile) -> [Finding] {
        guard file.isSwift || file.isC || file.isScript else { return [] }
        return findings(in: file) { line in
            line.count > lineLengthMax ? "line has \(line.count) characters, at most \(lineLengthMax) are wanted" : nil
        }
    }

    static func fileLength(_ file: RepositoryFile) -> [Finding] {
        let linesMax = file.fileExtension == "S" ? assemblyLinesMax : fileLinesMax
        guard file.isSwift || file.isC, file.lines.count > linesMax + 1 else { return [] }
        return [Finding(path: file.path, line: linesMax, problem: "file has \(file.lines.count) lines: split it by aspect")]
    }

    static func functionLength(_ file: RepositoryFile) -> [Finding] {
        guard file.isSwift else { return [] }
        return SwiftText(file.text).functions.filter { $0.lineCount > functionLinesMax }.map {
            Finding(path: file.path, line: $0.line, problem: "function has \($0.lineCount) lines, at most \(functionLinesMax) are wanted")
        }
    }

    static func forbiddenWords(_ file: RepositoryFile) -> [Finding] {
        findings(in: file) { line in
            forbiddenWords.first { line.contains($0) }.map { "names \($0), which only exists where this was written" }
        }
    }

    static func traps(_ file: RepositoryFile) -> [Finding] {
        guard file.isSwift, file.path.hasPrefix("Sources/") else { return [] }
        return SwiftText(file.text).lines.enumerated().compactMap { index, line in
            let problem: String? =
                if line.contains(/\btry!/) {
                    "try! traps: throw a typed error"
                } else if line.contains(/\bas!/) {
                    "as! traps: use as? and throw a typed error"
                } else if line.contains(/\bfatalError\(/) {
                    "fatalError ends the process: throw a typed error, or state a programmer's error with precondition"
                } else if line.contains(/[A-Za-z0-9_\])]!(?:[^=]|$)/) {
                    "force unwrap traps: use guard let"
                } else {
                    nil
                }
            return problem.map { Finding(path: file.path, line: index + 1, problem: $0) }
        }
    }

    /// The whole of Foundation brings ICU: 40 MB more of program, 3 MB more resident memory in every VMM process.
    static func foundation(_ file: RepositoryFile) -> [Finding] {
        guard file.isSwift, file.path.hasPrefix("Sources/") else { return [] }
        return findings(in: file) { line in
            line.contains(/^\s*(?:\w+ )?import Foundation\s*$/) ? "imports Foundation: FoundationEssentials or Linux will do" : nil
        }
    }

    static func undocumented(_ file: RepositoryFile) -> [Finding] {
        guard file.isSwift, file.path.hasPrefix("Sources/") else { return [] }
        let code = SwiftText(file.text).lines
        let lines = file.lines
        return code.indices.compactMap { index in
            let declaration = /^\s*public\s+(?:[a-z]+\s+)*(?:func|var|let|struct|class|enum|actor|protocol|init|subscript|typealias)\b/
            guard code[index].contains(declaration), !code[index].contains(/\boverride\b/) else { return nil }
            var above = index - 1
            while above >= 0, lines[above].contains(/^\s*[@#]/) { above -= 1 }
            guard above < 0 || !lines[above].contains(/^\s*\/\/\//) else { return nil }
            return Finding(path: file.path, line: index + 1, problem: "public declaration without a /// comment")
        }
    }

    /// Links between pages must lead somewhere.
    static func deadLinks(_ file: RepositoryFile) -> [Finding] {
        guard file.fileExtension == "md" else { return [] }
        let folder = Repository.root.appendingPathComponent(file.path).deletingLastPathComponent()
        return findings(in: file) { line in
            for match in line.matches(of: /\]\(([^)#\s]+)(?:#[^)]*)?\)/) where !match.1.contains("://") {
                let target = folder.appendingPathComponent(String(match.1)).path
                if !FileManager.default.fileExists(atPath: target) { return "link to \(match.1), which does not exist" }
            }
            return nil
        }
    }

    /// A path of this repository that a page names must be there; of a pattern, the folder before its first wildcard.
    static func deadPaths(_ file: RepositoryFile) -> [Finding] {
        guard file.fileExtension == "md", file.path != "CHANGELOG.md" else { return [] }
        let folders = ["Sources", "Tests", "Fuzz", "docs", "scripts", "bench", "findings", ".ci"].map { $0 + "/" }
        return findings(in: file) { line in
            // What stands between two backquotes; a regular expression would take a minute for all pages.
            for quoted in line.split(separator: "`", omittingEmptySubsequences: false).enumerated() where quoted.offset % 2 == 1 {
                let path = quoted.element
                guard folders.contains(where: path.hasPrefix), !path.contains(" "), !path.contains("NAME") else { continue }
                let place = path.firstIndex { "*{".contains($0) }.map { path[..<$0] }
                let known = place.map { $0[..<($0.lastIndex(of: "/") ?? $0.endIndex)] } ?? path
                let target = Repository.root.appendingPathComponent(String(known)).path
                if !FileManager.default.fileExists(atPath: target) { return "names \(path), which does not exist" }
            }
            return nil
        }
    }

    /// Names of the types that a Swift file declares or extends.
    static func types(_ file: RepositoryFile) -> [String] {
        let kinds: Set<Substring> = ["struct", "class", "enum", "actor", "protocol", "extension"]
        return SwiftText(file.text).lines.compactMap { line in
            let words = line.prefix(200).split { !($0.isLetter || $0.isNumber || $0 == "_") }
            guard let kind = words.firstIndex(where: kinds.contains), kind + 1 < words.count else { return nil }
            return words[kind + 1].first?.isUppercase == true ? String(words[kind + 1]) : nil
        }
    }

    static func scriptsStopAtErrors(_ file: RepositoryFile) -> [Finding] {
        guard file.isScript else { return [] }
        var findings: [Finding] = []
        if !file.text.contains("set -euo pipefail") && !file.text.contains("set -eu\n") {
            findings.append(Finding(path: file.path, line: 1, problem: "script goes on after an error: set -euo pipefail"))
        }
        if !FileManager.default.isExecutableFile(atPath: Repository.root.appendingPathComponent(file.path).path) {
            findings.append(Finding(path: file.path, line: 1, problem: "script is not executable"))
        }
        return findings
    }

    private static func findings(in file: RepositoryFile, _ problem: (Substring) -> String?) -> [Finding] {
        file.lines.enumerated().compactMap { index, line in
            problem(line).map { Finding(path: file.path, line: index + 1, problem: $0) }
        }
    }
}
