#if !hasFeature(Embedded)
    public import AgentProtocol
#endif

/// Reads `/proc/PID/maps` and sums it up by file.
public enum MappingParser {
    /// One entry for each file (or kind of memory) and way of sharing, in the order of first appearance.
    ///
    /// `START-END PERMISSIONS OFFSET MAJOR:MINOR INODE PATH`
    public static func parse(_ text: [UInt8], process: Int32, limit: Int) -> [MappingObject] {
        var mappings: [MappingObject] = []
        var file = TextScanner(text)
        while var line = file.nextLine() {
            guard let start = line.unsigned(16), line.take("-"), let end = line.unsigned(16), end >= start else { continue }
            let permissions = line.word().bytes
            guard permissions.count == 4, line.unsigned(16) != nil else { continue }
            _ = line.word()
            guard let inode = line.unsigned() else { continue }
            line.skipBlanks()
            var path = line.rest()
            let isDeleted = inode != 0 && path.hasSuffix(" (deleted)")
            if isDeleted { path = path.dropLast(10) }
            let isShared = permissions[3] == UInt8(ascii: "s")
            let index = mappings.firstIndex { $0.inode == inode && $0.isShared == isShared && $0.path == path } ?? mappings.count
            if index == mappings.count {
                guard mappings.count < limit else { break }
                var mapping = MappingObject()
                mapping.process = process
                mapping.path = path
                mapping.inode = inode
                mapping.isShared = isShared
                mapping.isDeleted = isDeleted
                mappings.append(mapping)
            }
            mappings[index].regions &+= 1
            mappings[index].bytes &+= end - start
            if permissions[1] == UInt8(ascii: "w") { mappings[index].isWritable = true }
            if permissions[2] == UInt8(ascii: "x") { mappings[index].isExecutable = true }
        }
        return mappings
    }
}
