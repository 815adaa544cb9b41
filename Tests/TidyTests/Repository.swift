import Foundation

/// One text file of the repository, by its path from the root.
struct RepositoryFile {
    let path: String
    let text: String

    /// The file's lines; `lines[0]` is line 1.
    var lines: [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false) }
    /// What follows the last dot of the name, or "".
    var fileExtension: String { (path as NSString).pathExtension }
    var isSwift: Bool { fileExtension == "swift" }
    var isC: Bool { ["c", "h", "S"].contains(fileExtension) }
    var isScript: Bool { text.hasPrefix("#!") && lines[0].hasSuffix("sh") }
}

/// One finding of a check, in the form that editors jump to.
struct Finding: CustomStringConvertible {
    let path: String
    let line: Int
    let problem: String
    var description: String { "\(path):\(line): \(problem)" }
}

/// The files that people write: what is built, prepared or measured is left out.
enum Repository {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    private static let folders = ["Sources", "Tests", "Fuzz", "docs", "scripts", "bench", "images", ".ci"]
    private static let rootFiles = ["Package.swift", "Makefile", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"]

    static let files: [RepositoryFile] = {
        var paths = rootFiles
        for folder in folders {
            guard let walker = FileManager.default.enumerator(atPath: root.appendingPathComponent(folder).path) else { continue }
            for case let path as String in walker where !isGenerated(path) { paths.append(folder + "/" + path) }
        }
        return paths.sorted().compactMap(read)
    }()

    private static func isGenerated(_ path: String) -> Bool {
        path.split(separator: "/").contains { ["generated", "results", "__pycache__", "corpus", ".build"].contains($0) }
    }

    /// Nil for folders, files that are not text, and links (their target is read at its own place).
    private static func read(_ path: String) -> RepositoryFile? {
        let url = root.appendingPathComponent(path)
        let attributes = try? FileManager.default.attributesOfItem(atPath: url.path)
        guard attributes?[.type] as? FileAttributeType == .typeRegular, let text = try? String(contentsOf: url, encoding: .utf8) else {
            return nil
        }
        return RepositoryFile(path: path, text: text)
    }
}
