"""Bugs of data: texts that are cut, ordered, numbered or held out wrongly."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Data"

_PROMISES = "tests/data/test_data_promises.py"

_PLACES = """\
        within = np.minimum((rows - self._first_row[place]) * self.body, lengths - self.body)
        return Places(starts + within, np.full(len(rows), self.body))
"""

BUGS: tuple[Bug, ...] = (
    Bug(
        name="order-the-same-every-epoch",
        title="Every epoch has the rows in the order of the first",
        edits=(
            Edit(
                "data/batches.py",
                "slots = sample_numbers(self.rows_per_epoch, self._seed, epoch, positions[chosen])",
                "slots = sample_numbers(self.rows_per_epoch, self._seed, 0, positions[chosen])",
            ),
            Edit(
                "data/batches.py",
                "        epoch, position = divmod(step, self.steps_per_epoch)\n",
                "        epoch, position = 0, step % self.steps_per_epoch\n",
            ),
        ),
        seen="A sampler whose epoch nobody sets: pytorch/pytorch #31771, lucidrains/DALLE-pytorch #230, "
        "kan-bayashi/ParallelWaveGAN #177 and hundreds of other programs.",
        lesson="The rows are shuffled once, so that looking at one epoch finds nothing. But the same rows meet in the "
        "same batches each time, and the last rows of an epoch are always the last: the noise of the gradients "
        "repeats, and averages out more slowly. The loss falls, with a wave whose length is the epoch; on a small "
        "text the training loss is even better, since batches can be learned by heart. Compare the orders of two "
        "epochs: two random orders agree in one place on average.",
        place="order_of_its_own",
        caught_by=f"{_PROMISES}::test_every_epoch_has_an_order_of_its_own[sentences]",
    ),
    Bug(
        name="rows-drawn-with-replacement",
        title="Each batch draws its rows from all rows, seen or not",
        edits=(
            Edit(
                "data/batches.py",
                "return self._bucketed_rows(step) if self._bucketed else self._packed_rows(step)",
                'return RandomStream(self._seed, "order", step).integers(len(self.rows), self.batch_size)[:, 0]',
            ),
        ),
        seen="Common where a batch is made from random offsets into one long array of tokens, which is shorter than a "
        "sampler with epochs; a choice there, a bug where epochs are counted.",
        lesson="After what is called an epoch, more than a third of the rows (1/e) have not been seen and a quarter "
        "twice or more. The loss falls just the same, for each gradient is a fair one. Only statements that count "
        "epochs are wrong: 'three epochs' have left out one row in twenty, and weights between corpora hold on "
        "average only. With a large text and less than one epoch nobody could tell. Collect the row numbers of an "
        "epoch and sort them: each must be there once.",
        place="every_row_comes_once_an_epoch",
        caught_by=f"{_PROMISES}::test_every_row_comes_once_an_epoch[sentences]",
    ),
    Bug(
        name="held-out-trained-on",
        title="Held-out documents are trained on too",
        edits=(
            Edit(
                "data/tokens.py",
                "        sides[0].append(np.flatnonzero(~held_out))\n",
                "        sides[0].append(np.arange(len(held_out)))\n",
            ),
        ),
        seen="TensorAuto/OpenTau #498 (another split on every rank), HKU-BAL/Clair3 #57 (an offset reached into the "
        "held-out part), daisybio/drevalpy #349.",
        lesson="The held-out loss now measures memory. It follows the training loss closely and never turns up again: "
        "the picture of a model that generalises well, and the reason why the bug is liked. With one epoch over a "
        "large text the difference is small, since each row is seen once; it grows with every epoch. It is found "
        "before training, by names: no document may be on both sides.",
        place="held_out_documents_are_not_trained_on",
        caught_by=f"{_PROMISES}::test_held_out_documents_are_not_trained_on",
    ),
    Bug(
        name="copies-on-both-sides",
        title="Documents are held out by their place in the file, so that copies land on both sides",
        edits=(
            Edit(
                "data/split.py",
                "    return np.asarray(hashes <= last)\n",
                "    return np.arange(len(hashes)) < wanted\n",
            ),
        ),
        seen="The general case is a split by line or chunk instead of by document: herniqeu/extract0 #1, SauersML/gam "
        "#2502; overlapping pieces in iarai/NeurIPS2022-traffic4cast #22.",
        lesson="Texts from the web repeat: licences, mirrors, quotations, the same help page in two packages. A split "
        "by position, or at random, puts some copies here and some there, and the model is asked for what it has "
        "read. Neighbouring chunks of one document are half copies too. The held-out loss is too good by an amount "
        "that nobody knows, and best for models that memorise best, so that it prefers them. Hash the text and let "
        "the hash decide: equal texts then stay together, whatever their place.",
        place="copies",
        caught_by=f"{_PROMISES}::test_copies_of_held_out_documents_are_held_out",
    ),
    Bug(
        name="vocabulary-from-held-out",
        title="The vocabulary is learned from the held-out documents as well",
        edits=(Edit("data/vocabularies.py", "        taken &= ~held_out\n", ""),),
        seen="guillaumegenthial/sequence_tagging #94, songyouwei/ABSA-PyTorch #190, jcjohnson/torch-rnn #179, "
        "allenai/allennlp #516 (there on purpose).",
        lesson="Words that stand in held-out text alone get pieces of their own, and are known to exist before they "
        "are met. With sub-words the gain is small, for unknown words fall into pieces anyway, and so it is excused; "
        "but it is a gain that cannot be had in use, and it changes the loss itself: fewer and longer pieces are "
        "other tokens to predict. Nothing in a curve can show it. Put a nonsense word into one document, and look for "
        "its piece: it may be there only if that document is trained on.",
        place="vocabulary",
        caught_by="tests/data/test_data_tokens.py::test_a_vocabulary_is_learned_from_the_training_documents_alone",
    ),
    Bug(
        name="rows-over-document-borders",
        title="Rows are filled up with the beginning of the next document",
        edits=(
            Edit(
                "data/packing.py",
                _PLACES,
                "        starts = starts + (rows - self._first_row[place]) * self.body\n"
                "        end = self._offsets[self._documents[-1] + 1]\n"
                "        return Places(np.minimum(starts, end - self.body), np.full(len(rows), self.body))\n",
            ),
            Edit(
                "data/packing.py",
                "        return Places(starts, np.minimum(self._offsets[sentence + 1] - starts, self.body))\n",
                "        starts = np.minimum(starts, self._offsets[-1] - self.body)\n"
                "        return Places(starts, np.full(len(rows), self.body))\n",
            ),
        ),
        seen="Join all texts, then cut at every T: the `group_texts` of many scripts, asked about in "
        "neulab/knn-transformers #15. Published models were trained so, mostly with a mark at the border.",
        lesson="Half of such a row may be about something else, and nothing tells the model where that begins: it can "
        "only learn to trust what is far away a little less. Where documents of both sides lie in one file, the "
        "filling also comes from held-out text, which is then trained on. The loss falls, and per token it even looks "
        "efficient, because no place is wasted on padding. Make documents of one letter each: a row with two letters "
        "has crossed a border.",
        place="border_of_a_document",
        caught_by=f"{_PROMISES}::test_no_row_crosses_the_border_of_a_document[packed]",
    ),
    Bug(
        name="sep-cut-off",
        title="Long rows are cut to T tokens, and what is cut off is [SEP]",
        edits=(
            Edit("data/tokens.py", "rows(corpus, length - 2)", "rows(corpus, length - 1)"),
            Edit(
                "data/packing.py",
                "                ids[row, length + 1] = self._sep_id\n",
                "                if length + 1 < self.length:\n"
                "                    ids[row, length + 1] = self._sep_id\n",
            ),
        ),
        seen="jackroos/VL-BERT #28, facebookresearch/esm #157 (the end mark of proteins): first the frame, then the "
        "cut.",
        lesson="A row that fits has its [SEP], one that was cut has none: the model learns that both exist. In packed "
        "rows every row is full, and no row has one. The loss falls as before, perhaps a little faster, as one more "
        "token is text. It hurts later: a sentence for fine-tuning comes with a [SEP] that the model has hardly seen, "
        "and attention heads that like to rest on it have no place to go. Cut the text first, then frame it; and test "
        "with a text that is too long.",
        place="every_row_ends_in_sep",
        caught_by=f"{_PROMISES}::test_every_row_ends_in_sep[sentences]",
    ),
    Bug(
        name="ids-in-one-byte",
        title="Token ids are kept in a type that is too narrow for the vocabulary",
        edits=(
            Edit(
                "data/packing.py",
                "ids = np.full((len(rows), self.length), self._pad_id, np.int32)",
                "ids = np.full((len(rows), self.length), self._pad_id, np.uint8)",
            ),
        ),
        seen="16 bits for 119,547 pieces in huggingface/transformers #2825 ('a large portion of tokens'), int16 in "
        "urvashik/knnlm #6, uint16 in huggingface/datatrove #118.",
        lesson="Assignment to a narrower array wraps around without a word: id 300 becomes 44, another piece, and 256 "
        "becomes [PAD]. The text is now nonsense, but consistent nonsense, in which each id stands for two pieces. "
        "There are fewer different targets, so the loss falls lower than that of the right program, and the held-out "
        "loss with it. Generated text would show it; a masked model that only reports losses never does. Test with "
        "the largest id that the type is said to hold, and the next one.",
        place="every_token_id",
        caught_by=f"{_PROMISES}::test_rows_hold_every_token_id_of_a_vocabulary[256]",
    ),
    Bug(
        name="capitals-unknown",
        title="Text is not lowered on its way to a vocabulary of small letters",
        edits=(
            Edit(
                "text/wordpiece.py",
                "words = split_words(normalize(chunk, wordpiece.lowercase, wordpiece.strip_accents))",
                "words = split_words(normalize(chunk, False, wordpiece.strip_accents))",
            ),
        ),
        seen="`do_lower_case` lost between two configuration files: vllm-project/vllm #11184, "
        "digitalepidemiologylab/covid-twitter-bert #5; apache/opennlp #1075 had no lowering at all.",
        lesson="Every word with a capital becomes [UNK] as a whole: names, and the first word of each sentence, which "
        "carries much of its syntax. [UNK] is special here and never asked for, so these words leave the exam, and "
        "the loss on what remains looks as it always did. Tests with small letters pass, and so does anything that "
        "compares the model with itself. Count [UNK] in real text: it should be next to none. Two ways through one "
        "tokenizer, a fast one and a full one, must agree.",
        place="capitals",
        caught_by=f"{_PROMISES}::test_capitals_of_a_corpus_are_lowered",
    ),
)
