/// Columns of text, as wide as their widest cell.
struct Table {
    private let rows: [[String]]

    init(_ head: [String], _ rows: [[String]]) { self.rows = [head] + rows }

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
        let clean = String(text.map { $0.isNewline || $0.unicodeScalars.contains { $0.value < 32 || $0.value == 127 } ? "?" : $0 })
        return clean.count <= charactersMax ? clean : clean.prefix(charactersMax - 1) + "…"
    }
}
