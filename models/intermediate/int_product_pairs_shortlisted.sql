with

product_pairs as (

    select
        left_product_key,
        right_product_key,
        copurchase_count
    from {{ ref('int_product_pairs_counted') }}

),

recommendable_products as (

    select product_key
    from {{ ref('int_products_keyed') }}
    where is_in_catalogue

),

directed as (

    select
        left_product_key as product_key,
        right_product_key as recommended_product_key,
        copurchase_count
    from product_pairs

    union all

    select
        right_product_key as product_key,
        left_product_key as recommended_product_key,
        copurchase_count
    from product_pairs

),

-- Keeping the N largest numbers of a product is many times faster than ranking all its pairs.
topped as (

    select
        directed.product_key,
        max(
            {{ pack_rank('directed.copurchase_count', 'directed.recommended_product_key') }},
            {{ recommendations_per_product() }}
        ) as packed_ranks
    from directed
    inner join recommendable_products
        on directed.recommended_product_key = recommendable_products.product_key
    group by directed.product_key

),

unnested as (

    select
        product_key,
        unnest(packed_ranks) as packed_rank
    from topped

),

shortlisted as (

    select
        product_key,
        {{ unpack_product_key('packed_rank') }} as recommended_product_key,
        {{ unpack_copurchase_count('packed_rank') }} as copurchase_count
    from unnested

)

select * from shortlisted
