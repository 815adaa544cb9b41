internal import AuroraVMM
internal import CLinux
internal import Linux

extension LaunchImage {
    private static let searchBytes = 1 << 20

    /// The pages of memory that a test finds, in rising order: of this image, and of its base where it has none of its own.
    ///
    /// Reads all that is not a hole, past what is mapped.
    ///
    /// - Throws: `LaunchError` for what cannot be read.
    public func pages(base: LaunchImage?, where test: (UnsafeRawBufferPointer) -> Bool) throws(LaunchError) -> [Int] {
        guard let runs = memoryRuns else { return try search(test) { $0 } }
        guard let base else { throw .unsuitable("its base is missing") }
        let own = Set(runs.runs.flatMap { $0.first..<$0.end })
        var next = 0
        let found = try search(test) { place in
            // Places rise as runs do.
            while next < runs.runs.count, runs.runs[next].place + runs.runs[next].count <= place { next += 1 }
            guard next < runs.runs.count else { return nil }
            return runs.runs[next].first + place - runs.runs[next].place
        }
        let inherited = try base.search(test) { own.contains($0) ? nil : $0 }
        return (found + inherited).sorted()
    }

    /// Searches the file; `page` tells which page of memory lies at a place in it.
    private func search(_ test: (UnsafeRawBufferPointer) -> Bool, page: (Int) -> Int?) throws(LaunchError) -> [Int] {
        let path = "\(directory)/\(LaunchImage.memoryName)"
        let bytes = manifest.files[LaunchImage.memoryName]?.bytes ?? 0
        let number = memory.rawValue
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: LaunchImage.searchBytes, alignment: pageBytes)
        defer { buffer.deallocate() }
        var found: [Int] = []
        var offset = 0
        while offset < bytes {
            let data = Int(lseek(number, off_t(offset), SEEK_DATA))
            if data < 0 { break }
            offset = data / pageBytes * pageBytes
            let wanted = min(buffer.count, bytes - offset)
            let start = offset
            let got = try launchCall("read", path) { clinux_pread(number, buffer.baseAddress, wanted, Int64(start)) }
            guard got >= pageBytes else { throw .damaged(path, reason: "it ends at byte \(offset)") }
            for place in 0..<(got / pageBytes) {
                let part = UnsafeRawBufferPointer(rebasing: buffer[(place * pageBytes)..<((place + 1) * pageBytes)])
                if test(part), let page = page(start / pageBytes + place) { found.append(page) }
            }
            offset += got / pageBytes * pageBytes
        }
        return found
    }
}
