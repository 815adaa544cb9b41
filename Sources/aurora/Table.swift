import Linux

/// Columns of text, as wide as their widest cell; what would steer a terminal is made visible.
struct Table {
    private let rows: [[String]]

    init(_ head: [String], _ rows: [[String]]) { self.rows = [head] + rows.map { $0.map(\.visibleLine) } }

    /// Writes the table to standard output.
    func print(lineEnd: String = "") {
        let widths = (0..<(rows.first?.count ?? 0)).map { column in rows.map { $0[column].count }.max() ?? 0 }
        for row in rows {
            let cells = row.enumerated().map { index, cell in
                index == row.count - 1 ? cell : cell + String(repeating: " ", count: widths[index] - cell.count)
            }
            Swift.print(cells.joined(separator: "   ") + lineEnd)
        }
    }

    /// A text on one line, without what would steer a terminal, cut where it gets long.
    static func printable(_ text: String, charactersMax: Int) -> String {
        let clean = text.visibleLine
        return clean.count <= charactersMax ? clean : clean.prefix(charactersMax - 1) + "…"
    }
}
