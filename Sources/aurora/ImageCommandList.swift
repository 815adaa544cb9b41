import ArgumentParser
import Images
import Linux

/// `aurora image ls`.
struct ImageListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls", abstract: "List the images of this data directory.", aliases: ["list"])

    /// How a listing is printed.
    enum Format: String, ExpressibleByArgument, CaseIterable {
        case table, json
    }

    @Option(parsing: .unconditional, help: "How to print the list: table or json.")
    var format: Format = .table

    @Flag(name: [.short, .long], help: "Print names only.")
    var quiet = false

    func run() throws {
        ImageCommand.images.tidy()
        let entries = try ImageCommand.images.list()
        if quiet {
            for entry in entries { print(entry.name) }
        } else if format == .json {
            print(try ImageCommand.json(entries.map { ImageDescription($0) }))
        } else {
            printTable(entries)
        }
    }

    private func printTable(_ entries: [ImageStore.Entry]) {
        let header = ["NAME", "SOURCE", "PACKAGES", "SIZE", "ON DISK", "CREATED", "DIGEST", "USED BY"]
        let rows = [header] + entries.map { row($0) }
        let widths = header.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        for row in rows {
            let cells = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
            print(cells.joined(separator: "  ").trimmingTrailingSpaces().visibleLine)
        }
    }

    /// The first users and how many more there are.
    private func users(_ name: ImageName) -> String {
        let users = (try? ImageCommand.images.users(of: name)) ?? []
        return users.prefix(3).joined(separator: ", ") + (users.count > 3 ? " and \(users.count - 3) more" : "")
    }

    private func row(_ entry: ImageStore.Entry) -> [String] {
        switch entry.image {
        case .success(let image):
            [
                image.name.description, image.manifest.source?.kind ?? "packages", "\(image.manifest.packages.count)",
                ImageCommand.readable(image.manifest.rootSize), ImageCommand.readable(image.diskBytes), image.manifest.createdAt,
                String(image.manifest.rootSHA256.prefix(12)), users(entry.name),
            ]
        case .failure: [entry.name.description, "damaged: see `aurora image inspect \(entry.name)`", "", "", "", "", "", ""]
        }
    }
}

extension String {
    /// The text without blanks at its end, as padding of a table's last column is of no use.
    fileprivate func trimmingTrailingSpaces() -> String {
        var end = endIndex
        while end > startIndex, self[index(before: end)] == " " { end = index(before: end) }
        return String(self[..<end])
    }
}
