import StoreSimulation
import Testing

@testable import Store

@Suite struct TreeTests {
    /// Trees of every interesting size find exactly what is in them, by key and in order from any key.
    @Test(arguments: [0, 1, 127, 128, 129, 255, 256, 5000, 128 * 128, 128 * 128 + 1])
    func findsWhatWasAdded(count: Int) throws {
        let place = TreePlace()
        let entries = (0..<UInt64(count)).map { TreePlace.entry($0 * 3 + 5, $0 + 1) }
        let tree = try place.tree(entries)
        #expect(tree.reference.entryCount == UInt64(count))
        for index in stride(from: 0, to: count, by: max(1, count / 200)) {
            let entry = entries[index]
            #expect(try tree.find(entry.key) == entry)
            #expect(try tree.find(entry.key + 1) == nil)
            var cursor = try tree.cursor(from: entry.key - 1)
            #expect(cursor.entry == entry)
            try cursor.advance()
            #expect(cursor.entry == (index + 1 < count ? entries[index + 1] : nil))
        }
        #expect(try tree.find(0) == nil && tree.find(.max) == nil)
        #expect(try tree.cursor(from: .max).entry == nil)
        var cursor = try tree.cursor()
        var listed: [TreeEntry] = []
        while let entry = cursor.entry {
            listed.append(entry)
            try cursor.advance()
        }
        #expect(listed == entries)
    }

    /// Merging tables is what laying dictionaries over each other is.
    @Test(arguments: 1...20)
    func mergesLikeDictionaries(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let place = TreePlace()
        var tables: [Tree] = []
        var model: [UInt64: TreeEntry] = [:]
        let spread = UInt64.random(in: 10...2000, using: &generator)
        for _ in 0..<Int.random(in: 1...6, using: &generator) {
            var layer: [UInt64: TreeEntry] = [:]
            for _ in 0..<Int.random(in: 0...600, using: &generator) {
                let key = UInt64.random(in: 0..<spread, using: &generator)
                layer[key] = TreePlace.entry(key, .random(in: 0..<4, using: &generator))
            }
            tables.insert(try place.tree(layer.values.sorted { $0.key < $1.key }), at: 0)
            model.merge(layer) { $1 }
        }
        let start = UInt64.random(in: 0..<spread, using: &generator)
        for from in [0, start] {
            var merger = try TableMerger(tables, from: from)
            var merged: [TreeEntry] = []
            while let entry = try merger.next() { merged.append(entry) }
            #expect(merged == model.values.filter { $0.key >= from }.sorted { $0.key < $1.key }, "seed=\(seed)")
        }
    }

    /// A changed byte anywhere in any node is found by whoever reads the node.
    @Test func everyChangedByteIsFound() throws {
        let place = TreePlace()
        let tree = try place.tree((0..<300).map { TreePlace.entry($0, $0 + 1) })
        var nodes: [PageLocation] = []
        try tree.forEachNode { place, _, _ in
            nodes.append(place.location)
            return true
        }
        #expect(nodes.count == 4)
        for node in nodes {
            for byte in stride(from: node.offset, to: node.offset + UInt64(node.length), by: 1) {
                place.disk.damage { $0.flip(bit: 3, at: byte) }
                defer { place.disk.damage { $0.flip(bit: 3, at: byte) } }
                let fresh = Tree(reference: tree.reference, source: place.source)
                #expect(throws: StoreError.self) { try fresh.forEachNode { _, _, _ in true } }
            }
        }
        try Tree(reference: tree.reference, source: place.source).forEachNode { _, _, _ in true }
    }

    /// Nodes with right checksums and wrong contents, as only a forger makes them.
    @Test func forgedNodesAreRefused() throws {
        let place = TreePlace()
        func node(_ entries: [TreeEntry], extra: Int = 0) throws -> DataReference {
            var bytes = [UInt8](repeating: 0, count: entries.count * 32 + extra)
            bytes.withUnsafeMutableBytes { buffer in
                for (index, entry) in entries.enumerated() { entry.store(to: buffer, at: index * 32) }
            }
            return try History.placed(bytes, place.put)
        }
        func read(_ root: DataReference, height: Int) throws {
            let reference = TreeReference(root: root, entryCount: 2, height: height, level: 0)
            try Tree(reference: reference, source: place.source).forEachNode { _, _, _ in true }
        }
        let one = TreePlace.entry(1, 1)
        let two = TreePlace.entry(2, 1)
        try read(try node([one, two]), height: 1)
        #expect(throws: StoreError.self) { try read(try node([two, one]), height: 1) }
        #expect(throws: StoreError.self) { try read(try node([one, one]), height: 1) }
        #expect(throws: StoreError.self) { try read(try node([one, two], extra: 8), height: 1) }
        let leaf = try node([one, two])
        try read(try node([TreeEntry(key: 1, leaf)]), height: 2)
        #expect(throws: StoreError.self, "another first key") { try read(try node([TreeEntry(key: 0, leaf)]), height: 2) }
        #expect(throws: StoreError.self, "keys of its neighbour") {
            try read(try node([TreeEntry(key: 1, leaf), TreeEntry(key: 2, try node([two]))]), height: 2)
        }
        #expect(throws: StoreError.self, "outside the store") {
            let far = PageLocation(offset: 1 << 40, length: 64) ?? .zero
            try read(DataReference(location: far, checksum: leaf.checksum), height: 1)
        }
        #expect(throws: StoreError.self, "longer than a node can be") {
            try read(DataReference(location: PageLocation(rawValue: 64 << 16 | 0xFFFF), checksum: leaf.checksum), height: 1)
        }
    }
}
